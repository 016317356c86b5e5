/*
 * What follows a sum that a library has computed, and a group of one: the one-shot kernels without an exchange. args.link is not looked at.
 */
#include "oneshot.cuh"

TCK_ONESHOT_TYPES(tck_epilogue, , 1)
