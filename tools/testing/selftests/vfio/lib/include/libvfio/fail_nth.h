/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_FAIL_NTH_H
#define SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_FAIL_NTH_H

#include <stdbool.h>

#include <linux/types.h>

/*
 * Faults that the kernel injects into the calling thread, one at a time: of its
 * allocations and user copies the nth fails.
 */

/* Returns a file for the other functions, or -1 without fault injection. */
int fail_nth_open(void);

/*
 * Let nothing fail that @function of the kernel calls, within 32 calls. Returns
 * whether that can be had: there is such a function, and
 * CONFIG_FAULT_INJECTION_STACKTRACE_FILTER.
 */
bool fail_nth_spare(const char *function);

void fail_nth_begin(int fd, u32 nth);

/* Returns whether there was an nth one, so that it has failed. */
bool fail_nth_end(int fd);

#endif /* SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_FAIL_NTH_H */
