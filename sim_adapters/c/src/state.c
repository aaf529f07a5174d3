/* Encoded states (bridge/codec.py): a prefix of 32 bytes, a map, and arrays behind it. */
#include "internal.h"

#include <stdio.h>

#define KIND_STATE 2

static uint64_t get(const uint8_t *p, int n)
{
    uint64_t out = 0;
    while (n-- > 0)
        out = out << 8 | p[n];
    return out;
}

static void put(uint8_t *p, uint64_t value, int n)
{
    for (int i = 0; i < n; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

void hr_state_free(hr_state *state)
{
    for (size_t i = 0; i < state->n; i++)
        free(state->arrays[i].name);
    free(state->arrays);
    free(state->own);
    memset(state, 0, sizeof *state);
}

/* One array: [name, dtype, shape, position]. */
static bool read_array(hr_reader *r, hr_array *array, const uint8_t *payload, uint64_t room)
{
    char dtype[32] = "";
    if (hr_read_array(r) != 4)
        return false;
    hr_span name = hr_read_text(r), text = hr_read_text(r);
    size_t ndim = hr_read_array(r);
    uint64_t count = 1;
    if (r->failed || text.size >= sizeof dtype)
        return false;
    memcpy(dtype, text.data, text.size);
    for (size_t i = 0; i < ndim; i++) {
        uint64_t n = hr_read_uint(r);
        if (n > 0 && count > room / n + 1)
            return false;
        count *= n;
    }
    uint64_t position = hr_read_uint(r);
    if (r->failed || hr_dtype_parse(dtype, array->dtype, &array->itemsize) < 0 || position > room ||
        count * array->itemsize > room - position)
        return false;
    array->count = (size_t)count;
    array->data = payload + position;
    array->name = hr_span_copy(name);
    return array->name != NULL;
}

int hr_decode_state(hr_state *state, hr_span data)
{
    const uint8_t *p = data.data;
    memset(state, 0, sizeof *state);
    if (data.size < 32 || memcmp(p, "HRDR", 4) != 0)
        return hr_fail(HR_ERROR_COMMAND, "The bytes are no encoded state: they do not begin with "
                                         "'HRDR'.");
    uint64_t version = get(p + 4, 2), kind = get(p + 6, 2), head = get(p + 8, 4);
    uint64_t payload = get(p + 16, 8), begin = hr_aligned(32 + head);
    if (version != 1 || kind != KIND_STATE)
        return hr_fail(HR_ERROR_COMMAND, "The bytes are of version %d and kind %d; a state of "
                                         "version 1 was expected.", (int)version, (int)kind);
    if (payload > data.size || begin > data.size || begin + payload != data.size)
        return hr_fail(HR_ERROR_COMMAND, "The state declares %llu bytes of arrays; %zu bytes came "
                                         "in all: it was cut off.",
                       (unsigned long long)payload, data.size);
    if (hr_hash(p + 32, data.size - 32) != get(p + 24, 8))
        return hr_fail(HR_ERROR_COMMAND, "The checksum of a state does not match its bytes.");
    hr_reader r = hr_reader_of(p + 32, head);
    size_t n = hr_read_map(&r);
    bool good = !r.failed;
    for (size_t i = 0; i < n && good; i++) {
        hr_span key = hr_read_text(&r);
        if (hr_span_is(key, "c") && state->arrays == NULL) {
            size_t count = hr_read_array(&r);
            state->arrays = calloc(count + 1, sizeof *state->arrays);
            good = state->arrays != NULL;
            for (size_t k = 0; k < count && good; k++) {
                good = read_array(&r, &state->arrays[k], p + begin, payload);
                state->n += good;
            }
        } else if (hr_span_is(key, "m"))
            state->plain = hr_read_any(&r);
        else
            hr_read_any(&r);
        good = good && !r.failed;
    }
    if (!good) {
        hr_state_free(state);
        return hr_fail(HR_ERROR_COMMAND, "The header of a state cannot be read.");
    }
    return HR_OK;
}

int hr_array_numbers(const hr_array *a, double *out)
{
    char kind = a->dtype[1];
    if ((kind != 'f' && kind != 'i' && kind != 'u') || (kind == 'f' && a->itemsize < 4))
        return hr_fail(HR_ERROR_COMMAND, "The array '%.128s' has dtype %s; real numbers of at least "
                                         "32 bits are needed.", a->name, a->dtype);
    for (size_t i = 0; i < a->count; i++) {
        const uint8_t *p = a->data + i * a->itemsize;
        int shift = 64 - 8 * (int)a->itemsize;
        uint64_t bits = get(p, (int)a->itemsize);
        float single;
        if (kind == 'f' && a->itemsize == 4) {
            memcpy(&single, p, 4);
            out[i] = single;
        } else if (kind == 'f')
            memcpy(&out[i], p, 8);
        else if (kind == 'u')
            out[i] = (double)bits;
        else
            out[i] = (double)((int64_t)(bits << shift) / ((int64_t)1 << shift));
    }
    return HR_OK;
}

int hr_array_doubles(const hr_array *a, double *out)
{
    int code = hr_array_numbers(a, out);
    for (size_t i = 0; i < a->count && code == HR_OK; i++)
        if (!isfinite(out[i]))
            return hr_fail(HR_ERROR_COMMAND, "The array '%.128s' has values that are not finite.",
                           a->name);
    return code;
}

uint8_t *hr_encode_state(const hr_array *arrays, const int64_t *const *shapes, const int *ndims,
                         size_t n, const hr_buffer *plain, size_t *size)
{
    hr_buffer b = {0};
    uint64_t position = 0;
    hr_write_map(&b, 2);
    hr_write_text(&b, "m");
    if (plain == NULL)
        hr_write_map(&b, 0);
    else {
        hr_write_bytes(&b, plain->data, plain->size);
        b.failed = b.failed || plain->failed;
    }
    hr_write_text(&b, "c");
    hr_write_array(&b, n);
    for (size_t i = 0; i < n; i++) {
        hr_write_array(&b, 4);
        hr_write_text(&b, arrays[i].name);
        hr_write_text(&b, arrays[i].dtype);
        hr_write_array(&b, (size_t)ndims[i]);
        for (int k = 0; k < ndims[i]; k++)
            hr_write_int(&b, shapes[i][k]);
        hr_write_uint(&b, position);
        position = hr_aligned(position + arrays[i].count * arrays[i].itemsize);
    }
    uint64_t begin = hr_aligned(32 + b.size);
    uint8_t *out = b.failed ? NULL : calloc(1, begin + position);
    if (out != NULL) {
        memcpy(out + 32, b.data, b.size);
        position = 0;
        for (size_t i = 0; i < n; i++) {
            memcpy(out + begin + position, arrays[i].data, arrays[i].count * arrays[i].itemsize);
            position = hr_aligned(position + arrays[i].count * arrays[i].itemsize);
        }
        memcpy(out, "HRDR", 4);
        put(out + 4, 1, 2);
        put(out + 6, KIND_STATE, 2);
        put(out + 8, b.size, 4);
        put(out + 16, position, 8);
        put(out + 24, hr_hash(out + 32, begin + position - 32), 8);
        *size = begin + position;
    }
    hr_buffer_free(&b);
    return out;
}
