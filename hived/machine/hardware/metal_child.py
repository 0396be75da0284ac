"""``python -m hived.machine.hardware.metal_child``: how much memory Metal lets one program use, in bytes.

In a process of its own: it loads Apple's frameworks. Written from Apple's documentation (a program that links
no graphics must load Core Graphics for MTLCreateSystemDefaultDevice to return one), called on a library that
answers as it says, and not run on a Mac.
"""

from __future__ import annotations

import ctypes


def main() -> None:
    """Print ``recommendedMaxWorkingSetSize`` of the device that Metal would take."""
    # Metal finds its devices only in a program that has loaded Core Graphics.
    ctypes.CDLL("/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics")
    metal = ctypes.CDLL("/System/Library/Frameworks/Metal.framework/Metal")
    objc = ctypes.CDLL("/usr/lib/libobjc.A.dylib")
    metal.MTLCreateSystemDefaultDevice.restype = ctypes.c_void_p
    device = metal.MTLCreateSystemDefaultDevice()
    if not device:
        return
    objc.sel_registerName.restype = ctypes.c_void_p
    objc.sel_registerName.argtypes = [ctypes.c_char_p]
    send = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p)(("objc_msgSend", objc))
    print(send(device, objc.sel_registerName(b"recommendedMaxWorkingSetSize")))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
