/* How frames lie in a chunk: one column after the other, each at a multiple of 64 bytes. */
#include "internal.h"

#define XXH_INLINE_ALL
#include "../vendor/xxhash.h"

#define CHUNK_BYTES (1 << 20) /* chunks of small frames are hashed while they are in the cache */
#define MAX_ROWS 4096

hr_layout *hr_layout_new(const hr_schema *schema, uint64_t capacity, int64_t lead, bool ids)
{
    size_t n = 3 + (size_t)ids + schema->n_variables, at = 0;
    hr_layout *out = malloc(sizeof *out + n * sizeof out->columns[0]);
    if (out == NULL)
        return NULL;
    out->capacity = (uint32_t)capacity;
    out->n_columns = n;
    out->columns[at++][0] = 8;
    out->columns[at++][0] = 8;
    out->columns[at++][0] = 4;
    if (ids)
        out->columns[at++][0] = 8 * (uint64_t)(lead < 0 ? 0 : lead);
    for (size_t i = 0; i < schema->n_variables; i++)
        out->columns[at++][0] = hr_variable_bytes(&schema->variables[i], lead);
    uint64_t position = 0;
    for (at = 0; at < n; at++) {
        out->columns[at][1] = position;
        position = hr_aligned(position + out->columns[at][0] * capacity);
    }
    out->nbytes = position;
    return out;
}

uint64_t hr_layout_bytes(const hr_schema *schema, uint64_t capacity, int64_t lead, bool ids)
{
    uint64_t out = 2 * hr_aligned(8 * capacity) + hr_aligned(4 * capacity);
    if (ids)
        out += hr_aligned(8 * (uint64_t)(lead < 0 ? 0 : lead) * capacity);
    for (size_t i = 0; i < schema->n_variables; i++)
        out += hr_aligned(hr_variable_bytes(&schema->variables[i], lead) * capacity);
    return out;
}

uint64_t hr_rows_for(const hr_schema *schema, uint64_t limit)
{
    uint64_t rows = CHUNK_BYTES / (hr_schema_bytes(schema) + 20);
    rows = rows > MAX_ROWS ? MAX_ROWS : rows < 1 ? 1 : rows;
    while (rows > 1 && hr_layout_bytes(schema, rows, -1, false) > limit)
        rows /= 2;
    return rows;
}

uint64_t hr_layout_checksum(const hr_layout *layout, const uint8_t *base, uint64_t row,
                            uint64_t count)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    for (size_t i = 0; i < layout->n_columns; i++) {
        uint64_t size = layout->columns[i][0];
        if (size > 0)
            XXH3_64bits_update(&state, base + layout->columns[i][1] + row * size, count * size);
    }
    return XXH3_64bits_digest(&state);
}

uint64_t hr_layout_packed(const hr_layout *layout, uint64_t count)
{
    uint64_t out = 0;
    for (size_t i = 0; i < layout->n_columns; i++)
        out += hr_aligned(layout->columns[i][0] * count);
    return out;
}

void hr_layout_pack(const hr_layout *layout, const uint8_t *base, uint64_t row, uint64_t count,
                    uint8_t *out)
{
    for (size_t i = 0; i < layout->n_columns; i++) {
        uint64_t size = layout->columns[i][0], bytes = size * count, room = hr_aligned(bytes);
        if (bytes > 0)
            memcpy(out, base + layout->columns[i][1] + row * size, bytes);
        if (room > bytes)
            memset(out + bytes, 0, room - bytes);
        out += room;
    }
}
