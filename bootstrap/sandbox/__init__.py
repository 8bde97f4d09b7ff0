"""The sandbox: a world for the program to work in, without Kubernetes.

Each pod is a real server process with its own loopback address and its own directory, so it
can be killed, come back empty or come back elsewhere. A small DNS server answers for them as a
Kubernetes cluster's does. Nothing here knows the program: only processes, addresses and names.
"""
