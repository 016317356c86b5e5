/* Builds without CUDA. */
#include "../bench.h"

#include <stdio.h>

int cuda_measure(struct settings *settings)
{
    (void)settings;
    fprintf(stderr, "trtcoll-bench: --device cuda: this trtcoll-bench was built without CUDA\n");
    return EXIT_USAGE;
}
