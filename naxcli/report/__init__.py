"""What a finished or running search tells its user: terminal tables, Markdown, CSV, one offline HTML page, and plots.

Numbers come in ready-made (`ReportData`); nothing here fits a model or reads a run directory.
"""

from naxcli.report.data import ReportData

__all__ = ["ReportData"]
