# A thousand threads.
# gate: forbidden_import
# alone: raised
import threading
import time

def revise_state(s):
    for _ in range(1000):
        threading.Thread(target=time.sleep, args=(1000,)).start()
    return s
