"""A mail server: real SMTP on a port of its own, for one session after the other."""

import socketserver
import threading
from email import message_from_bytes, policy


class Mailbox:
    """Keeps what is handed in as (sender, recipients, message); `refuse` answers RCPT with its text."""

    def __init__(self):
        self.got = []
        self.refuse = None
        box = self

        class Session(socketserver.StreamRequestHandler):
            def say(self, line):
                self.wfile.write(line.encode() + b"\r\n")

            def handle(self):
                self.say("220 here")
                sender, recipients = None, []
                while line := self.rfile.readline().decode().strip():
                    verb = line[:4].upper()
                    if verb in ("EHLO", "HELO"):
                        self.say("250 here")
                    elif verb == "MAIL":
                        sender = line.partition(":")[2].split()[0].strip("<>")
                        self.say("250 ok")
                    elif verb == "RCPT":
                        recipients.append(line.partition(":")[2].strip("<> "))
                        self.say(box.refuse or "250 ok")
                    elif verb == "DATA":
                        self.say("354 go on")
                        lines = []
                        while (part := self.rfile.readline()) not in (b".\r\n", b""):
                            lines.append(part.removeprefix(b".") if part.startswith(b"..") else part)
                        message = message_from_bytes(b"".join(lines), policy=policy.default)
                        box.got.append((sender, recipients, message))
                        self.say("250 taken")
                    elif verb == "QUIT":
                        self.say("221 bye")
                        return
                    else:
                        self.say("250 ok")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self):
        return f"smtp://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
