/*
 * Faults on demand. The file named by TRTCOLL_FAKE_FAULTS is looked at whenever it has changed; tests write it, at any time. One fault per
 * line, blank lines and lines that begin with # count for nothing:
 *
 *   <function> <error number> [pid=<n>] [skip=<n>] [once]    the next call (or the one after `skip` others) fails with the error
 *   <function> hang [pid=<n>] [skip=<n>] [once]              ... never returns
 *   fault <error number> device=<n> [pid=<n>] [once]         device n of the machine is out of order: every later call on it fails
 *
 * Every process that sees a line carries it out once; with `once` only the first process of all does. Functions are called without version
 * suffix: cuMemAlloc, ncclAllReduce; for `fault` the error is usually 700, an illegal address. A file that gets shorter is read afresh.
 */
#ifndef TESTS_FAKE_CUDA_INJECT_H
#define TESTS_FAKE_CUDA_INJECT_H

#include "fake.h"

/* The error to answer with, or 0. Exported: the fake NCCL asks too. Takes no lock of the driver. */
FAKE_EXPORT int trtcoll_fake_injected(const char *function);
/* The error of a device that has to fault now, or 0: once per line. */
int fake_injected_fault(unsigned machine_index);

#endif
