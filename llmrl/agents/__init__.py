"""One file per algorithm; `conf/agent/<name>.yaml` holds its values."""
