"""What this machine is, source by source.

Each source has a file with a pure parser over the text that it gives (files of the kernel, what a vendor's
program prints). ``asking`` runs the programs and has the files read, within bounds, each by a process of its
own that can be left behind where a driver holds it; ``understanding`` makes one ``Hardware`` of all texts.
"""
