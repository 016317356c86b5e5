#include "../doctor.h"

#include "../text.h"

#include <tck/cuda_driver.h>
#include <tck/memory.h>
#include <tcw/types.h>

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_GPUS = 16 };
#define PEER_BYTES (UINT64_C(64) << 20)
enum { PEER_ROUNDS = 8, PATTERN_BYTES = 64 };

struct gpu {
    struct tck_device *device;
    const struct tck_device_facts *facts;
    struct tck_memory memory; /* PEER_BYTES of its own */
    CUstream stream;
};

/* ---- libraries ---- */

/* "580.159.04", the first word with a digit and a dot of what the driver says of itself; empty where it says nothing. */
static void release_of_driver(char *text, size_t bytes)
{
    FILE *file = fopen("/proc/driver/nvidia/version", "r");
    char line[256] = "", *rest = NULL;

    *text = 0;
    if (!file)
        return;
    if (!fgets(line, sizeof line, file))
        line[0] = 0;
    fclose(file);
    for (char *word = strtok_r(line, " \t\n", &rest); word; word = strtok_r(NULL, " \t\n", &rest)) {
        if (*word >= '0' && *word <= '9' && strchr(word, '.')) {
            snprintf(text, bytes, "%s", word);
            return;
        }
    }
}

static void driver(struct tcc_findings *findings, const struct gpu *gpu)
{
    static const char remedy[] =
        "a driver for this CUDA or newer, where kernels are to be compiled for a GPU that this build has no code for";
    unsigned version = gpu->facts->driver;
    bool older = version < CUDA_VERSION;
    char release[64];

    release_of_driver(release, sizeof release);
    tcc_findings_add(findings, older ? TCC_FINDING_NOTE : TCC_FINDING_GOOD, "driver", older ? remedy : NULL,
                     "%s%sCUDA %u.%u; this build knows CUDA %d.%d", release, *release ? ", " : "", version / 1000, version % 1000 / 10,
                     CUDA_VERSION / 1000, CUDA_VERSION % 1000 / 10);
}

#ifdef TRTCOLL_NCCL
static void nccl(struct tcc_findings *findings)
{
    static const char remedy[] = "install NCCL 2.28 or newer where the daemon finds libnccl.so.2: the served lane on GPUs needs it";
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    int (*get_version)(int *) = NULL;
    int version = 0;

    if (!library) {
        tcc_findings_add(findings, TCC_FINDING_WARNING, "NCCL", remedy, "libnccl.so.2 cannot be loaded");
        return;
    }
    *(void **)&get_version = dlsym(library, "ncclGetVersion");
    if (!get_version || get_version(&version))
        tcc_findings_add(findings, TCC_FINDING_BAD, "NCCL", remedy, "libnccl.so.2 does not tell its version");
    else
        tcc_findings_add(findings, version >= 22800 ? TCC_FINDING_GOOD : TCC_FINDING_WARNING, "NCCL", version >= 22800 ? NULL : remedy,
                         "%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    dlclose(library);
}
#else
static void nccl(struct tcc_findings *findings)
{
    tcc_findings_add(findings, TCC_FINDING_WARNING, "NCCL", "build with nccl.h 2.28 or newer: the served lane on GPUs needs it",
                     "this build leaves it out");
}
#endif

/* ---- policy ---- */

static void multicast(struct tcc_findings *findings, const struct gpu *gpu)
{
    const char *nvls = getenv("NCCL_NVLS_ENABLE");
    int supported = 0;

    tck_cuda_driver()->cuDeviceGetAttribute(&supported, CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED, tck_cuda_ordinal(gpu->device));
    tcc_findings_add(
        findings, TCC_FINDING_NOTE, "multicast", NULL,
        "the GPUs %s NVLink multicast; the daemon uses it only with \"multicast\": true in its configuration, and nothing does while "
        "NCCL_NVLS_ENABLE is 0 (here: %s)",
        supported ? "support" : "do not support", nvls ? nvls : "not set");
}

static void mps(struct tcc_findings *findings, const struct gpu *gpu)
{
    if (gpu->facts->mps)
        tcc_findings_add(findings, TCC_FINDING_NOTE, "MPS",
                         "if engines must not take each other down, run without MPS and use the direct lane: it costs the same either way",
                         "on: a served request of up to 1 MB costs some 5 us more than NCCL itself, while its client computes; one "
                         "client's fault ends every context of its GPU");
    else
        tcc_findings_add(
            findings, TCC_FINDING_NOTE, "MPS",
            "start MPS for daemon and engines alike if small messages must go through the served lane; the direct lane needs none",
            "off: engines are safe from each other; a served request costs about 0.3 ms while its client computes");
}

/* ---- each GPU ---- */

static void describe(struct tcc_findings *findings, unsigned number, const struct gpu *gpu)
{
    const struct tck_device_facts *facts = gpu->facts;

    tcc_findings_add(findings, TCC_FINDING_GOOD, "GPU", NULL, "%u: %s, SM %u.%u, %s, %s", number, facts->name, facts->compute / 10,
                     facts->compute % 10, tcc_bytes(facts->memory_bytes).s, facts->pci);
    if (!facts->stream_words)
        tcc_findings_add(findings, TCC_FINDING_BAD, "GPU", "a newer GPU or driver: the served lane needs 64-bit stream memory operations",
                         "%u: no 64-bit stream memory operations", number);
    if (facts->fd_export)
        tcc_findings_add(findings, TCC_FINDING_GOOD, "descriptors", NULL, "%u: memory can be exported as a descriptor", number);
    else
        tcc_findings_add(findings, TCC_FINDING_BAD, "descriptors",
                         "a newer driver, or Linux instead of WSL: workspaces are shared by descriptors",
                         "%u: memory cannot be exported as a descriptor", number);
    if (facts->fabric)
        tcc_findings_add(findings, TCC_FINDING_GOOD, "fabric", NULL,
                         "%u: fabric handles work; descriptors are used all the same, as no group spans nodes yet", number);
    else
        tcc_findings_add(findings, TCC_FINDING_NOTE, "fabric",
                         "only multi-node NVLink needs fabric handles: there, let nvidia-imex run and give the daemon an IMEX channel",
                         "%u: no fabric handles, descriptors are used: %s", number, facts->fabric_why);
}

static bool prepare(struct tcc_findings *findings, unsigned number, struct gpu *gpu)
{
    int code = tck_memory_create(gpu->device, "doctor", PEER_BYTES, &gpu->memory);

    if (!code && tck_cuda_enter(gpu->device) == 0) {
        code = tck_cuda_code(tck_cuda_driver()->cuStreamCreateWithPriority(&gpu->stream, CU_STREAM_NON_BLOCKING, 0));
        tck_cuda_leave(gpu->device);
    }
    if (code)
        tcc_findings_add(findings, TCC_FINDING_BAD, "GPU", "free memory on this GPU, or look at the kernel's log for faults of it",
                         "%u: no memory or stream: %s", number, tcw_error_text(code));
    return !code;
}

/* ---- each pair ---- */

/* `from` writes into memory of `to` as a kernel or copy would: through a mapping of the descriptor. */
static CUresult push(const struct gpu *from, const struct gpu *to, CUdeviceptr there, uint32_t pattern, float *milliseconds)
{
    const struct tck_cuda_driver *cu = tck_cuda_driver();
    CUdeviceptr here = (CUdeviceptr)(uintptr_t)from->memory.base;
    CUevent start = NULL, end = NULL;
    CUresult result;

    (void)to;
    result = cu->cuEventCreate(&start, CU_EVENT_DEFAULT);
    if (result == CUDA_SUCCESS)
        result = cu->cuEventCreate(&end, CU_EVENT_DEFAULT);
    if (result == CUDA_SUCCESS)
        result = cu->cuMemsetD32Async(here, pattern, PEER_BYTES / sizeof(uint32_t), from->stream);
    if (result == CUDA_SUCCESS)
        result = cu->cuMemcpyAsync(there, here, PEER_BYTES, from->stream);
    if (result == CUDA_SUCCESS)
        result = cu->cuEventRecord(start, from->stream);
    for (unsigned i = 0; result == CUDA_SUCCESS && i < PEER_ROUNDS; i++)
        result = cu->cuMemcpyAsync(there, here, PEER_BYTES, from->stream);
    if (result == CUDA_SUCCESS)
        result = cu->cuEventRecord(end, from->stream);
    if (result == CUDA_SUCCESS)
        result = cu->cuStreamSynchronize(from->stream);
    if (result == CUDA_SUCCESS)
        result = cu->cuEventElapsedTime(milliseconds, start, end);
    if (start)
        cu->cuEventDestroy(start);
    if (end)
        cu->cuEventDestroy(end);
    return result;
}

/* Whether the owner finds at both ends of its memory what was pushed. */
static bool arrived(const struct gpu *to, uint32_t pattern)
{
    const uint64_t offsets[] = {0, PEER_BYTES - PATTERN_BYTES};
    uint32_t words[PATTERN_BYTES / sizeof(uint32_t)];
    bool all = true;

    if (tck_cuda_enter(to->device))
        return false;
    for (unsigned at = 0; at < 2; at++) {
        CUdeviceptr address = (CUdeviceptr)(uintptr_t)to->memory.base + offsets[at];

        memset(words, 0, sizeof words);
        all = all && tck_cuda_driver()->cuMemcpyDtoH(words, address, sizeof words) == CUDA_SUCCESS;
        for (unsigned i = 0; i < PATTERN_BYTES / sizeof(uint32_t); i++)
            all = all && words[i] == pattern;
    }
    tck_cuda_leave(to->device);
    return all;
}

/* GB/s from one to the other; 0 if bytes do not arrive, with `why`. */
static double pair_rate(const struct gpu *from, const struct gpu *to, uint32_t pattern, char *why, size_t why_bytes)
{
    struct tck_memory mapped = {.fd = -1};
    float milliseconds = 0;
    int possible = 0, fd, code;
    CUresult result;

    tck_cuda_driver()->cuDeviceCanAccessPeer(&possible, tck_cuda_ordinal(from->device), tck_cuda_ordinal(to->device));
    if (!possible) {
        snprintf(why, why_bytes, "the driver says that they have no peer access");
        return 0;
    }
    fd = dup(to->memory.fd);
    code = fd < 0 ? TCW_EIO : tck_memory_import(from->device, fd, PEER_BYTES, &mapped);
    if (code) {
        snprintf(why, why_bytes, "cannot be mapped: %s", tcw_error_text(code));
        if (fd >= 0)
            close(fd);
        return 0;
    }
    if (tck_cuda_enter(from->device)) {
        tck_memory_release(&mapped);
        snprintf(why, why_bytes, "the context is broken");
        return 0;
    }
    result = push(from, to, (CUdeviceptr)(uintptr_t)mapped.base, pattern, &milliseconds);
    tck_cuda_leave(from->device);
    tck_memory_release(&mapped);
    if (result != CUDA_SUCCESS) {
        tck_cuda_text(result, why, why_bytes);
        return 0;
    }
    if (!arrived(to, pattern)) {
        snprintf(why, why_bytes, "other bytes arrived than were sent");
        return 0;
    }
    return milliseconds > 0 ? (double)(PEER_BYTES * PEER_ROUNDS) / ((double)milliseconds * 1e6) : 0;
}

static void pairs(struct tcc_findings *findings, const struct gpu *gpus, unsigned count)
{
    double least = 0, most = 0;
    unsigned good = 0;

    for (unsigned from = 0; from < count; from++) {
        for (unsigned to = 0; to < count; to++) {
            char why[160] = "";
            double rate = from == to ? 1 : pair_rate(&gpus[from], &gpus[to], 0x7c011000u + from * MAX_GPUS + to, why, sizeof why);

            if (from == to)
                continue;
            if (rate <= 0) {
                tcc_findings_add(
                    findings, TCC_FINDING_WARNING, "peer access",
                    "look for ACS or IOMMU settings and at nvidia-smi topo -p2p r: without it groups of these GPUs are served by NCCL only",
                    "GPU %u cannot write to GPU %u: %s", from, to, why);
                continue;
            }
            least = !good || rate < least ? rate : least;
            most = rate > most ? rate : most;
            good++;
        }
    }
    if (good)
        tcc_findings_add(findings, TCC_FINDING_GOOD, "peer access", NULL, "%u of %u directions move bytes, at %.0f to %.0f GB/s", good,
                         count * (count - 1), least, most);
}

void tcc_doctor_gpus(struct tcc_findings *findings)
{
    static struct gpu gpus[MAX_GPUS];
    unsigned count = 0, usable = 0;
    char why[256] = "";

    while (count < MAX_GPUS && tck_device_open(NULL, (int)count, &gpus[count].device, why, sizeof why) == 0)
        count++;
    if (!count) {
        tcc_findings_add(findings, TCC_FINDING_NOTE, "CUDA", "install the NVIDIA driver if this machine has GPUs; host devices need none",
                         "no GPU: %s", why);
        return;
    }
    for (unsigned i = 0; i < count; i++)
        gpus[i].facts = tck_device_facts(gpus[i].device);
    driver(findings, &gpus[0]);
    nccl(findings);
    for (unsigned i = 0; i < count; i++) {
        describe(findings, i, &gpus[i]);
        usable += prepare(findings, i, &gpus[i]);
    }
    mps(findings, &gpus[0]);
    multicast(findings, &gpus[0]);
    if (usable == count)
        pairs(findings, gpus, count);
    for (unsigned i = 0; i < count; i++) {
        if (gpus[i].stream && tck_cuda_enter(gpus[i].device) == 0) {
            tck_cuda_driver()->cuStreamDestroy(gpus[i].stream);
            tck_cuda_leave(gpus[i].device);
        }
        if (gpus[i].memory.base)
            tck_memory_release(&gpus[i].memory);
        tck_device_close(gpus[i].device);
    }
}
