"""`kill -9` of the real server, at named points of its work and at any time, under load.

server.py   the server as a process that kills itself where it is told to
device.py   a device that keeps what it has to keep across crashes, and checks whatever it gets
world.py    all devices of one history, and what must be true of them at its end
history.py  from an old database through a number of kills to a settled end

encrypted.py  the same with devices that have keys of their own: their programs are killed too
member.py     such a device, as a program
laws.py       what must be true of the files of all devices at the end
"""
