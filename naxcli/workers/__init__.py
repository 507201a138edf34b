"""Worker processes, on this machine, on a cluster, or through SLURM, and what runs in them."""
