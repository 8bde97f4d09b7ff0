"""The sandbox: a world for the program to work in, without Kubernetes.

Each pod is a real server process with its own loopback address and its own directory, so it can be
killed, come back empty or come back on another address. A small DNS server answers for them as the
DNS of a Kubernetes cluster does. It imports none of the program's code; of the program it knows the
names of the variables that point it here. Whatever cannot be done as asked is a SandboxError.
"""
