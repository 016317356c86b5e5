#include "../doctor.h"

void tcc_doctor_gpus(struct tcc_findings *findings)
{
    tcc_findings_add(findings, TCC_FINDING_NOTE, "CUDA", "build with the CUDA toolkit 12.8 or newer if this machine has GPUs",
                     "this build has host devices only");
}
