// SPDX-License-Identifier: GPL-2.0-only
/*
 * Firmware of the simulated host bridges of pci-sim
 *
 * Each \_SB.PSMn is a device that a simulated host bridge can have as its ACPI
 * companion. Its _DSM answers "Query Cache Locality TPH Features" (revision 7,
 * function 0xF, see the ECN to the PCI Firmware Specification) with Steering
 * Tags that are made from the ACPI Processor UID. Several of them answer as
 * firmware should not.
 *
 * For QEMU: -acpitable file=ssdt.aml
 */
DefinitionBlock ("ssdt.aml", "SSDT", 2, "PCISIM", "PCISIM", 0x00000001)
{
    /* QEMU: is this processor present? */
    External (\_SB.CPUS.CSTA, MethodObj)

    Scope (\_SB)
    {
        /* Bits of the answer, of volatile memory. Persistent: 32 above */
        Name (PSM8, 0x01)       /* 8-bit Steering Tag valid */
        Name (PSMX, 0x02)       /* 16-bit Steering Tag valid */

        /* Does Arg0 (UID) belong to a processor? */
        Method (PSMC, 1, Serialized)
        {
            If (CondRefOf (\_SB.CPUS.CSTA))
            {
                If (LGreater (Arg0, 0xFF))
                {
                    Return (Zero)
                }
                Return (\_SB.CPUS.CSTA (Arg0))
            }
            Return (LLess (Arg0, 0x08))
        }

        /* 64-bit answer for UID Arg0, tags raised by Arg1, valid bits Arg2 */
        Method (PSMT, 3, Serialized)
        {
            Name (ANSW, Buffer (0x08) {})
            CreateByteField (ANSW, 0x00, VFLG)
            CreateByteField (ANSW, 0x01, VTAG)
            CreateWordField (ANSW, 0x02, VXTG)
            CreateByteField (ANSW, 0x04, PFLG)
            CreateByteField (ANSW, 0x05, PTAG)
            CreateWordField (ANSW, 0x06, PXTG)

            Store (Zero, VFLG)
            Store (Zero, VTAG)
            Store (Zero, VXTG)
            Store (Zero, PFLG)
            Store (Zero, PTAG)
            Store (Zero, PXTG)

            If (PSMC (Arg0))
            {
                Add (Arg0, Arg1, Local0)
                Store (Arg2, VFLG)
                Store (And (Add (Local0, 0x41), 0xFF), VTAG)
                Store (And (Add (Local0, 0x0A41), 0xFFFF), VXTG)
                Store (Arg2, PFLG)
                Store (And (Add (Local0, 0x81), 0xFF), PTAG)
                Store (And (Add (Local0, 0x0B81), 0xFFFF), PXTG)
            }
            Return (ANSW)
        }

        /* Is this _DSM (Arg0 UUID, Arg1 revision) about cache locality? */
        Method (PSMQ, 2, NotSerialized)
        {
            Return (LAnd (LEqual (Arg0,
                          ToUUID ("e5c937d0-3553-4d7a-9117-ea4d19c3434d")),
                          LEqual (Arg1, 0x07)))
        }

        /* Both tags of both kinds of memory */
        Device (PSM0)
        {
            Name (_HID, "PSIM0001")
            Name (_UID, Zero)
            Name (CALL, Zero)   /* evaluations */
            Method (_DSM, 4, Serialized)
            {
                If (PSMQ (Arg0, Arg1))
                {
                    Increment (CALL)
                    If (LEqual (Arg2, Zero))
                    {
                        Return (Buffer (0x02) {0x01, 0x80})
                    }
                    If (LEqual (Arg2, 0x0F))
                    {
                        Return (PSMT (DerefOf (Index (Arg3, One)), Zero, Or (PSM8, PSMX)))
                    }
                }
                Return (Buffer (One) {0x00})
            }
        }

        /* The same with other tags */
        Device (PSM1)
        {
            Name (_HID, "PSIM0001")
            Name (_UID, One)
            Name (CALL, Zero)   /* evaluations */
            Method (_DSM, 4, Serialized)
            {
                If (PSMQ (Arg0, Arg1))
                {
                    Increment (CALL)
                    If (LEqual (Arg2, Zero))
                    {
                        Return (Buffer (0x02) {0x01, 0x80})
                    }
                    If (LEqual (Arg2, 0x0F))
                    {
                        Return (PSMT (DerefOf (Index (Arg3, One)), 0x20, Or (PSM8, PSMX)))
                    }
                }
                Return (Buffer (One) {0x00})
            }
        }

        /* No function 0xF */
        Device (PSM2)
        {
            Name (_HID, "PSIM0001")
            Name (_UID, 2)
            Name (CALL, Zero)   /* evaluations */
            Method (_DSM, 4, Serialized)
            {
                If (PSMQ (Arg0, Arg1))
                {
                    Increment (CALL)
                    If (LEqual (Arg2, Zero))
                    {
                        Return (Buffer (0x02) {0x01, 0x00})
                    }
                }
                Return (Buffer (One) {0x00})
            }
        }

        /* An answer that is too short */
        Device (PSM3)
        {
            Name (_HID, "PSIM0001")
            Name (_UID, 3)
            Name (CALL, Zero)   /* evaluations */
            Method (_DSM, 4, Serialized)
            {
                If (PSMQ (Arg0, Arg1))
                {
                    Increment (CALL)
                    If (LEqual (Arg2, Zero))
                    {
                        Return (Buffer (0x02) {0x01, 0x80})
                    }
                    If (LEqual (Arg2, 0x0F))
                    {
                        Return (Buffer (0x04) {0x03, 0x41, 0x41, 0x0A})
                    }
                }
                Return (Buffer (One) {0x00})
            }
        }

        /* An answer that is not a buffer */
        Device (PSM4)
        {
            Name (_HID, "PSIM0001")
            Name (_UID, 4)
            Name (CALL, Zero)   /* evaluations */
            Method (_DSM, 4, Serialized)
            {
                If (PSMQ (Arg0, Arg1))
                {
                    Increment (CALL)
                    If (LEqual (Arg2, Zero))
                    {
                        Return (Buffer (0x02) {0x01, 0x80})
                    }
                    If (LEqual (Arg2, 0x0F))
                    {
                        Return (0x0A410A41)
                    }
                }
                Return (Buffer (One) {0x00})
            }
        }

        /* Only 8-bit Steering Tags */
        Device (PSM5)
        {
            Name (_HID, "PSIM0001")
            Name (_UID, 5)
            Name (CALL, Zero)   /* evaluations */
            Method (_DSM, 4, Serialized)
            {
                If (PSMQ (Arg0, Arg1))
                {
                    Increment (CALL)
                    If (LEqual (Arg2, Zero))
                    {
                        Return (Buffer (0x02) {0x01, 0x80})
                    }
                    If (LEqual (Arg2, 0x0F))
                    {
                        Return (PSMT (DerefOf (Index (Arg3, One)), Zero, PSM8))
                    }
                }
                Return (Buffer (One) {0x00})
            }
        }

        /* Only 16-bit Steering Tags */
        Device (PSM6)
        {
            Name (_HID, "PSIM0001")
            Name (_UID, 6)
            Name (CALL, Zero)   /* evaluations */
            Method (_DSM, 4, Serialized)
            {
                If (PSMQ (Arg0, Arg1))
                {
                    Increment (CALL)
                    If (LEqual (Arg2, Zero))
                    {
                        Return (Buffer (0x02) {0x01, 0x80})
                    }
                    If (LEqual (Arg2, 0x0F))
                    {
                        Return (PSMT (DerefOf (Index (Arg3, One)), Zero, PSMX))
                    }
                }
                Return (Buffer (One) {0x00})
            }
        }
    }
}
