"""Figures: their numbers once, and their pictures by Plotly and by Matplotlib."""
