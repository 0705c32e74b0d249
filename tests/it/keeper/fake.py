"""A server, or a publisher, that only speaks; the file `mode` tells how it behaves.

The kernel ends it with the keeper, as it does the real ones; what it hears goes to `heard`.
"""

import ctypes
import json
import os
import socket
import struct
import sys
import threading
import time

ctypes.CDLL(None).prctl(1, 9)
keeper = socket.socket(fileno=0)
# The keeper may have died before that.
(parent,) = struct.unpack("i8x", keeper.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
if parent != os.getppid():
    sys.exit()
mode = open("mode").read().strip()


def heard(text):
    with open("heard", "a") as file:
        file.write(f"{os.getpid()} {text}\n")


def say(message, *descriptors):
    socket.send_fds(keeper, [json.dumps(message).encode()], descriptors)


def memory(text):
    descriptor = os.memfd_create("fake")
    os.write(descriptor, text.encode())
    return descriptor


if sys.argv[0].endswith("publish-mount"):
    text, _, _, _ = socket.recv_fds(keeper, 1 << 17, 4)
    heard("publish " + text.decode())
    while True:
        time.sleep(60)

ready = {"Ready": {"shown": "1 files of 2 nodes", "log_file": None, "log_level": "info"}}
while True:
    text, descriptors, _, _ = socket.recv_fds(keeper, 1 << 17, 4)
    if not text:
        # Whoever lingers although the keeper is gone is ended by the kernel.
        time.sleep(60)
    message = json.loads(text)
    if isinstance(message, str):
        name = message
    else:
        (name,) = message
    heard(name)
    if name == "Start":
        if not message["Start"]["takes_over"]:
            if mode == "fail":
                say({"Failed": {"reason": "there is no such thing"}})
            if mode == "die":
                sys.exit(3)
            say({"Init": {"minor": 45, "max_readahead": 131072, "flags": 1 << 39 | 7}})
            say({"Loading": {"so_far": "1 of 2 nodes answered"}})
            if not message["Start"]["anew"] or mode != "lost, and silent":
                say(ready)
        elif mode == "hang":
            time.sleep(60)
        elif mode == "refuse":
            say({"Failed": {"reason": "a record of another format"}})
            time.sleep(60)
        elif "lost" in mode:
            say({"Lost": {"why": "Record", "reason": "there is no record"}})
            time.sleep(60)
        elif "foreign" in mode and "other" in os.readlink("/proc/self/exe"):
            say({"Lost": {"why": "Foreign", "reason": "a record of another format"}})
            time.sleep(60)
        elif "die" in mode:
            sys.exit(3)
        else:
            assert message["Start"]["init"]["minor"] == 45
            heard("record " + os.pread(descriptors[1], 100, 0).decode())
            say("Loaded")
        say("Record", memory(f"of {os.getpid()}"))
    elif name == "Freeze":
        number = message["Freeze"]["upgrade"]
        late = open("mode").read().strip()
        if late == "late":
            # For one that comes too late.
            frozen = number
        elif late == "late again":
            say({"Frozen": {"upgrade": frozen}})
        else:
            say("Record", memory(f"frozen {os.getpid()}"))
            say({"Frozen": {"upgrade": number}})
    elif name == "Reload":
        # The first thread ends, and another one does not.
        threading.Thread(target=time.sleep, args=(600,)).start()
        ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
    elif name == "Status":
        if mode != "silent":
            say("Status", memory('{"fake": true}'))
    elif name == "Publisher":
        pid = message["Publisher"]["pid"]
        heard(f"publisher {pid}")
        if mode == "complain":
            # Once is enough, for whoever replaced it.
            mode = "serve"
            say({"PublisherHangs": {"pid": pid}})
            say({"PublisherHangs": {"pid": pid}})
