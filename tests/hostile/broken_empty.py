# Nothing at all.
# gate: missing_function
# alone: missing_function
