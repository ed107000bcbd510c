# numpy fetches files from the web.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    return list(np.lib.npyio.DataSource(None).open("http://127.0.0.1:@PORT@/x").read())
