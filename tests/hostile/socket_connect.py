# Sends the state to a server.
# gate: forbidden_import
# alone: raised
import _socket

def revise_state(s):
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    connection.connect(("127.0.0.1", @PORT@))
    connection.send(s.tobytes())
    return s
