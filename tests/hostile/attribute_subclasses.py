# Finds a class that knows `os` among all subclasses of object, and runs a shell.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    for cls in ().__class__.__base__.__subclasses__():
        if cls.__name__ == "_wrap_close":
            return list(cls.__init__.__globals__["popen"]("cat @SECRET@").read().encode())
    raise LookupError("not found")
