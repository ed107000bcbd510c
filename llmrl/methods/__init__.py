"""One file per method; `conf/method/<name>.yaml` holds its values."""
