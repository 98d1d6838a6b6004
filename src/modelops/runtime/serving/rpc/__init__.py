"""The Open Inference Protocol over gRPC: a second port, for who asks for it, onto the same engine.

What belongs here: that protocol's messages, and their way into the forms that the HTTP port has, and back. What never does:
judging callers, choosing variants or asking models in any other way than there.

Needs the extra `grpc`; nothing else of the runtime imports this before a deployment's limits ask for it.
"""
