"""What each command does, without a terminal: the Python API of `docs/python.md`.

| module | public functions |
|---|---|
| `run` | `run_search`, `open_run`, and the `Run` they return: the API in one object, also as `naxcli.run_search`, `naxcli.open_run` |
| `session`, `search` | `open_session`, `run_session` |
| `plan` | `plan_search` |
| `status` | `describe_run` |
| `stop` | `stop_run`, `wait_for_end` |
| `report` | `report_run`, `report_table`, `Report` |
| `compare` | `compare_runs` |
| `confirm` | `confirm` |
| `select`, `network_sizes` | `select`, `network_sizes` |
| `network` | `build_selected` |
| `export` | `export` |
| `train` | `plan_training` (in `train_settings`), `run_training` |
| `bench` | `bench` |
| `study_landscape`, `study_lesion`, `study_path` | `study_landscape`, `study_lesion`, `study_path` |
| `study_rank` | `study_random_layers`, `study_checkpoints` |
| `space` | `describe_space`, `validate_space` |
| `prepare` | `prepare_space_file` |
| `data` | `list_sources`, `describe_source` |
"""
