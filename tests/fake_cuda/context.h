/*
 * Devices and their primary contexts; the context stack of a thread. A device of the machine has an index; a process sees some of them, by
 * ordinal. Owner: the process.
 */
#ifndef TESTS_FAKE_CUDA_CONTEXT_H
#define TESTS_FAKE_CUDA_CONTEXT_H

#include "fake.h"

struct fake_context {
    unsigned index;  /* of the machine */
    int ordinal;     /* of this process */
    unsigned users;  /* cuDevicePrimaryCtxRetain */
    CUresult fault;  /* sticky */
    uint64_t in_use; /* bytes */
    uint64_t life;   /* counts the times it came to life: streams of an earlier life are dead */
};

/* Lock held. */
CUresult fake_devices_init(void);
bool fake_devices_ready(void);
int fake_device_count(void);
struct fake_context *fake_context_of_ordinal(int ordinal); /* NULL: no such device */
int fake_ordinal_of_index(unsigned index);                 /* -1: this process does not see it */
struct fake_context *fake_context_current(void);           /* NULL: none */
uint64_t fake_device_bytes(void);
/* May this context's device be given memory of the device with this index? */
bool fake_context_reaches(const struct fake_context *context, unsigned index);

/* TRTCOLL_FAKE_UNCHECKED. Never changes after cuInit; without the lock. */
bool fake_launches_unchecked(void);

/* What is wrong with using this context now: dead, faulted; 0 nothing. */
CUresult fake_context_check(struct fake_context *context);
void fake_context_break(struct fake_context *context, CUresult fault);

#endif
