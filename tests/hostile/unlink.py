# Removes, renames and changes files that belong to others; no descriptor is needed for it.
# gate: forbidden_import
# alone: raised
import os

def revise_state(s):
    errors = []
    for change in (lambda: os.unlink("@SECRET@"), lambda: os.rename("@SECRET@", "@SECRET@.gone"),
                   lambda: os.truncate("@SECRET@", 0), lambda: os.mkdir("@OUTSIDE@/made"),
                   lambda: os.symlink("/", "@OUTSIDE@/link"), lambda: os.chmod("@SECRET@", 0)):
        try:
            change()
        except OSError as error:
            errors.append(error)
    raise errors[-1]
