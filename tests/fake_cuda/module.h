/* Modules and functions: names only. Any image is accepted; what a function does is its twin's business. */
#ifndef TESTS_FAKE_CUDA_MODULE_H
#define TESTS_FAKE_CUDA_MODULE_H

#include "twins.h"

struct fake_function {
    struct fake_function *next;
    char name[128];
    const struct fake_twin *twin; /* NULL: a launch is not supported */
    int shared_limit;             /* dynamic shared memory that has been opted in to */
};

struct fake_module {
    struct fake_module *next;
    struct fake_context *context;
    struct fake_function *functions;
};

#endif
