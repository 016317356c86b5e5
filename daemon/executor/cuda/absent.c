/* What stands in for CUDA devices where they are not built in. */
#include "../engine.h"

#include <stdio.h>

int tcd_ex_cuda_engine(const char *name, struct tcd_ex_engine **engine, struct tcd_ex_facts *facts, char *text)
{
    (void)name;
    (void)engine;
    (void)facts;
    snprintf(text, TCW_TEXT_BYTES, "this trtcolld was built without CUDA devices");
    return TCW_ENOTSUP;
}
