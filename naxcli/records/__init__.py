"""Records of a search: trials, results, and the files of a run directory."""
