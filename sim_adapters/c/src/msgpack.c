/* MessagePack: what the messages need of it. Numbers take the fewest bytes, as msgspec writes. */
#include "internal.h"

void hr_buffer_free(hr_buffer *b)
{
    free(b->data);
    memset(b, 0, sizeof *b);
}

void hr_write_bytes(hr_buffer *b, const void *data, size_t size)
{
    if (b->failed || size == 0)
        return;
    if (b->size + size > b->room) {
        size_t room = 2 * (b->size + size) + 64;
        uint8_t *grown = realloc(b->data, room);
        if (grown == NULL) {
            b->failed = true;
            return;
        }
        b->data = grown;
        b->room = room;
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

/* A byte that says what comes, and a big-endian number of n bytes. */
static void write_number(hr_buffer *b, uint8_t kind, uint64_t value, int n)
{
    uint8_t out[9];
    out[0] = kind;
    for (int i = 0; i < n; i++)
        out[1 + i] = (uint8_t)(value >> (8 * (n - 1 - i)));
    hr_write_bytes(b, out, (size_t)n + 1);
}

static void write_size(hr_buffer *b, size_t n, uint8_t few, size_t limit, uint8_t two_bytes)
{
    if (n <= limit)
        write_number(b, (uint8_t)(few | n), 0, 0);
    else if (n <= 0xffff)
        write_number(b, two_bytes, n, 2);
    else
        write_number(b, (uint8_t)(two_bytes + 1), n, 4);
}

void hr_write_array(hr_buffer *b, size_t n)
{
    write_size(b, n, 0x90, 15, 0xdc);
}

void hr_write_map(hr_buffer *b, size_t n)
{
    write_size(b, n, 0x80, 15, 0xde);
}

void hr_write_text(hr_buffer *b, const char *text)
{
    size_t n = strlen(text);
    if (n > 31 && n <= 0xff)
        write_number(b, 0xd9, n, 1);
    else
        write_size(b, n, 0xa0, 31, 0xda);
    hr_write_bytes(b, text, n);
}

void hr_write_uint(hr_buffer *b, uint64_t v)
{
    if (v < 0x80)
        write_number(b, (uint8_t)v, 0, 0);
    else if (v <= 0xff)
        write_number(b, 0xcc, v, 1);
    else if (v <= 0xffff)
        write_number(b, 0xcd, v, 2);
    else if (v <= 0xffffffff)
        write_number(b, 0xce, v, 4);
    else
        write_number(b, 0xcf, v, 8);
}

void hr_write_int(hr_buffer *b, int64_t v)
{
    if (v >= 0)
        hr_write_uint(b, (uint64_t)v);
    else if (v >= -32)
        write_number(b, (uint8_t)v, 0, 0);
    else if (v >= INT8_MIN)
        write_number(b, 0xd0, (uint64_t)v, 1);
    else if (v >= INT16_MIN)
        write_number(b, 0xd1, (uint64_t)v, 2);
    else if (v >= INT32_MIN)
        write_number(b, 0xd2, (uint64_t)v, 4);
    else
        write_number(b, 0xd3, (uint64_t)v, 8);
}

void hr_write_double(hr_buffer *b, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    write_number(b, 0xcb, bits, 8);
}

void hr_write_bool(hr_buffer *b, bool value)
{
    write_number(b, value ? 0xc3 : 0xc2, 0, 0);
}

void hr_write_nil(hr_buffer *b)
{
    write_number(b, 0xc0, 0, 0);
}

/* ------------------------------------------------------------------------------ reading */

hr_reader hr_reader_of(const void *data, size_t size)
{
    static const uint8_t nothing[1] = {0};
    const uint8_t *at = data == NULL ? nothing : data;
    hr_reader out = {at, at + (data == NULL ? 0 : size), false};
    return out;
}

static uint64_t take(hr_reader *r, size_t n)
{
    uint64_t out = 0;
    if (r->failed || (size_t)(r->end - r->at) < n) {
        r->failed = true;
        return 0;
    }
    for (; n > 0; n--)
        out = out << 8 | *r->at++;
    return out;
}

static int peek(const hr_reader *r)
{
    return r->failed || r->at >= r->end ? -1 : *r->at;
}

/* A number of elements or bytes; more than there are bytes left cannot be. */
static size_t read_size(hr_reader *r, int few, int mask, int first, int widths)
{
    int kind = (int)take(r, 1);
    size_t n = 0;
    if (r->failed)
        return 0;
    if ((kind & ~mask) == few)
        n = (size_t)(kind & mask);
    else if (first && kind >= first && kind < first + widths)
        n = (size_t)take(r, widths == 3 ? (size_t)1 << (kind - first) : (size_t)2 << (kind - first));
    else
        r->failed = true;
    if (n > (size_t)(r->end - r->at))
        r->failed = true;
    return r->failed ? 0 : n;
}

size_t hr_read_array(hr_reader *r)
{
    return read_size(r, 0x90, 0x0f, 0xdc, 2);
}

size_t hr_read_map(hr_reader *r)
{
    return read_size(r, 0x80, 0x0f, 0xde, 2);
}

hr_span hr_read_text(hr_reader *r)
{
    hr_span out = {r->at, 0};
    int kind = peek(r);
    size_t n = kind >= 0xc4 && kind <= 0xc6 ? read_size(r, 0x100, 0, 0xc4, 3)
                                            : read_size(r, 0xa0, 0x1f, 0xd9, 3);
    if (!r->failed) {
        out.data = r->at;
        out.size = n;
        r->at += n;
    }
    return out;
}

static int64_t read_signed(hr_reader *r, int kind)
{
    uint64_t v = take(r, (size_t)1 << (kind - 0xd0));
    switch (kind) {
    case 0xd0: return (int8_t)v;
    case 0xd1: return (int16_t)v;
    case 0xd2: return (int32_t)v;
    default: return (int64_t)v;
    }
}

static bool is_unsigned(int kind)
{
    return (kind >= 0 && kind < 0x80) || (kind >= 0xcc && kind <= 0xcf);
}

uint64_t hr_read_uint(hr_reader *r)
{
    int kind = peek(r);
    if (!is_unsigned(kind)) {
        r->failed = true;
        return 0;
    }
    r->at++;
    return kind < 0x80 ? (uint64_t)kind : take(r, (size_t)1 << (kind - 0xcc));
}

int64_t hr_read_int(hr_reader *r)
{
    int kind = peek(r);
    if (is_unsigned(kind)) {
        uint64_t v = hr_read_uint(r);
        if (v > INT64_MAX)
            r->failed = true;
        return r->failed ? 0 : (int64_t)v;
    }
    if (kind < 0 || !(kind >= 0xe0 || (kind >= 0xd0 && kind <= 0xd3))) {
        r->failed = true;
        return 0;
    }
    r->at++;
    return kind >= 0xe0 ? (int8_t)kind : read_signed(r, kind);
}

double hr_read_double(hr_reader *r)
{
    int kind = peek(r);
    if (kind == 0xcb) {
        double out;
        r->at++;
        uint64_t bits = take(r, 8);
        memcpy(&out, &bits, sizeof out);
        return out;
    }
    if (kind == 0xca) {
        float out;
        r->at++;
        uint32_t bits = (uint32_t)take(r, 4);
        memcpy(&out, &bits, sizeof out);
        return out;
    }
    return is_unsigned(kind) ? (double)hr_read_uint(r) : (double)hr_read_int(r);
}

bool hr_read_bool(hr_reader *r)
{
    int kind = (int)take(r, 1);
    if (kind != 0xc2 && kind != 0xc3)
        r->failed = true;
    return kind == 0xc3;
}

bool hr_read_nil(hr_reader *r)
{
    if (peek(r) != 0xc0)
        return false;
    r->at++;
    return true;
}

bool hr_is_number(const hr_reader *r)
{
    int kind = peek(r);
    return is_unsigned(kind) || kind >= 0xe0 || (kind >= 0xd0 && kind <= 0xd3) || kind == 0xca ||
           kind == 0xcb;
}

bool hr_is_text(const hr_reader *r)
{
    int kind = peek(r);
    return (kind & ~0x1f) == 0xa0 || (kind >= 0xd9 && kind <= 0xdb);
}

bool hr_is_array(const hr_reader *r)
{
    int kind = peek(r);
    return (kind >= 0x90 && kind <= 0x9f) || kind == 0xdc || kind == 0xdd;
}

bool hr_is_map(const hr_reader *r)
{
    int kind = peek(r);
    return (kind >= 0x80 && kind <= 0x8f) || kind == 0xde || kind == 0xdf;
}

static void skip_bytes(hr_reader *r, uint64_t n)
{
    if (r->failed || (uint64_t)(r->end - r->at) < n)
        r->failed = true;
    else
        r->at += n;
}

hr_span hr_read_any(hr_reader *r)
{
    hr_span out = {r->at, 0};
    uint64_t left = 1; /* values still to pass over: no recursion, however deep they nest */
    while (left > 0 && !r->failed) {
        int kind = peek(r);
        left--;
        if (kind < 0)
            r->failed = true;
        else if (hr_is_array(r))
            left += hr_read_array(r);
        else if (hr_is_map(r))
            left += 2 * (uint64_t)hr_read_map(r);
        else if (hr_is_text(r) || (kind >= 0xc4 && kind <= 0xc6))
            hr_read_text(r);
        else if (hr_is_number(r))
            hr_read_double(r);
        else if (kind == 0xc0 || kind == 0xc2 || kind == 0xc3)
            r->at++;
        else if (kind >= 0xd4 && kind <= 0xd8)
            skip_bytes(r, 2 + ((uint64_t)1 << (kind - 0xd4)));
        else if (kind >= 0xc7 && kind <= 0xc9) {
            r->at++;
            skip_bytes(r, take(r, (size_t)1 << (kind - 0xc7)) + 1);
        } else
            r->failed = true;
    }
    out.size = r->failed ? 0 : (size_t)(r->at - out.data);
    return out;
}

bool hr_span_is(hr_span span, const char *text)
{
    return strlen(text) == span.size && memcmp(span.data, text, span.size) == 0;
}

char *hr_span_copy(hr_span span)
{
    return hr_copy_span((const char *)span.data, span.size);
}
