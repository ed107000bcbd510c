# The model explains instead of programming.
# gate: syntax
# alone: syntax
Here is the function that you asked for. It adds the velocity's norm.
