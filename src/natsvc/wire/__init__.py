"""One NATS client connection as a state machine, without I/O.

Front-ends hand in what happens (bytes came, the time is now T) and do what comes out (send these bytes, connect to that
server). All of the protocol is here: parser, commands, handshake, credentials, the choice of the server.
"""
