"""The fast lane: whole, plain requests for predictions, answered from the socket's callback.

What belongs here: telling that a request is whole and plain, and writing its reply. What never does: reading bodies,
asking models or judging callers in any other way than the ordinary lane does; whatever is not whole and plain goes there.
"""
