"""The scripts are read by mypy, never imported."""

collect_ignore_glob = ["scripts/*"]
