"""From a table's yaml over its runs to numbers beside the published ones."""
