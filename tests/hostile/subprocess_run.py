# Runs a shell.
# gate: forbidden_import
# alone: raised
import subprocess

def revise_state(s):
    return list(subprocess.run(["cat", "@SECRET@"], capture_output=True).stdout)
