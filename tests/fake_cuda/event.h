/* Events. Owner: the process; never freed. */
#ifndef TESTS_FAKE_CUDA_EVENT_H
#define TESTS_FAKE_CUDA_EVENT_H

#include "stream.h"

struct fake_event {
    struct fake_event *next;
    struct fake_context *context;
    bool alive;
    bool timing;
    uint64_t recorded, completed; /* numbers of records */
    uint64_t completed_ns;
    uint64_t capture; /* id of the capture in which it was recorded last; 0: outside */
    uint64_t capture_nodes;
    struct fake_stream *capture_stream;
};

#endif
