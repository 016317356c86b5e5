#include "args.h"

#include "error.h"

#include <string.h>

/* No struct of this interface will ever be longer: a larger size is an uninitialised field, and reading that far could fault. */
enum { LARGEST = 65536 };

static int size_check(const char *what, const void *structure, uint32_t *size)
{
    if (!structure)
        return tcc_fail(TRTCOLL_EINVAL, "%s is NULL", what);
    memcpy(size, structure, sizeof(*size));
    if (*size < sizeof(*size) || *size > LARGEST)
        return tcc_fail(TRTCOLL_EINVAL, "%s.size is %u: initialise the structure with its _INIT macro or set size to sizeof", what, *size);
    return 0;
}

int tcc_args_in(const char *what, const void *from, void *to, size_t known)
{
    const unsigned char *bytes = from;
    uint32_t size = 0;
    size_t i;
    int code = size_check(what, from, &size);

    if (code)
        return code;
    for (i = known; i < size; i++)
        if (bytes[i])
            return tcc_fail(TRTCOLL_EINVAL, "%s.size is %u, this library knows %zu bytes, and byte %zu behind them is not zero", what, size,
                            known, i);
    memset(to, 0, known);
    memcpy(to, from, size < known ? size : known);
    return 0;
}

int tcc_args_out(const char *what, const void *from, size_t known, void *to)
{
    uint32_t size = 0;
    int code = size_check(what, to, &size);

    if (code)
        return code;
    memcpy(to, from, size < known ? size : known);
    if (size > known)
        memset((unsigned char *)to + known, 0, size - known);
    memcpy(to, &size, sizeof(size));
    return 0;
}
