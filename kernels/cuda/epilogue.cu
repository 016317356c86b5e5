/*
 * What follows a sum that a library has computed, and a group of one: the one-shot kernels without an exchange. Of args.link only the page
 * counts, where a group of one posts its runs; behind a library there is none.
 */
#include "oneshot_kernels.cuh"

TCK_ONESHOT_TYPES(tck_epilogue, , 1)
