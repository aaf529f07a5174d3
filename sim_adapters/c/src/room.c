/*
 * Where chunks lie: in leased segments, or in memory where bytes must travel; and what was sent
 * until it is acknowledged. All functions want the stream's lock.
 */
#include "internal.h"

#define INLINE_WINDOW ((uint64_t)64 << 20) /* bytes that may travel without an acknowledgement */
#define MAX_SEGMENT ((uint64_t)16 << 20)
#define BUSY 0.1 /* a segment filled in less seconds is followed by one of twice its size */

static void free_lease(hr_lease *lease)
{
    if (lease != NULL)
        hr_unmap(lease->mapping);
    free(lease);
}

/* -------------------------------------------------------------------------- chunks */

static uint8_t *take_memory(hr_stream *s, size_t size, size_t *found)
{
    for (size_t i = 0; i < s->n_pool; i++)
        if (s->pool_sizes[i] >= size) {
            uint8_t *out = s->pool[i];
            *found = s->pool_sizes[i];
            s->n_pool--;
            s->pool[i] = s->pool[s->n_pool];
            s->pool_sizes[i] = s->pool_sizes[s->n_pool];
            return out;
        }
    *found = size;
    return malloc(size);
}

static void give_memory(hr_stream *s, uint8_t *memory, size_t size)
{
    if (s->n_pool < sizeof s->pool / sizeof *s->pool) {
        s->pool[s->n_pool] = memory;
        s->pool_sizes[s->n_pool++] = size;
    } else
        free(memory);
}

void hr_chunk_release(hr_stream *s, hr_chunk *chunk)
{
    if (chunk == NULL || --chunk->references > 0)
        return;
    if (chunk->mapping != NULL)
        hr_unmap(chunk->mapping);
    else if (chunk->base != NULL)
        give_memory(s, chunk->base, chunk->own_size);
    free(chunk->layout);
    free(chunk);
}

static hr_chunk *new_chunk(hr_stream *s, uint64_t capacity, int64_t lead, bool ids)
{
    hr_chunk *out = calloc(1, sizeof *out);
    if (out == NULL)
        return NULL;
    out->layout = hr_layout_new(&s->schema, capacity, lead, ids);
    if (out->layout == NULL) {
        free(out);
        return NULL;
    }
    out->segment = -1;
    out->lead = lead;
    out->ids = ids;
    out->references = 1;
    return out;
}

/* Rows of a chunk that fits what is left of a segment; 0 if none does. */
static uint64_t fitting(hr_stream *s, const hr_lease *lease, uint64_t rows, int64_t lead, bool ids)
{
    uint64_t left = lease->size - lease->used;
    uint64_t capacity = rows ? rows : hr_rows_for(&s->schema, lease->size);
    uint64_t size = hr_layout_bytes(&s->schema, capacity, lead, ids);
    if (size <= left)
        return capacity;
    if (rows)
        return 0;
    /* The last chunk of a segment takes what is left. */
    uint64_t most = size > 0 ? (uint64_t)((double)left * (double)capacity / (double)size) : 0;
    capacity = capacity < most ? capacity : most;
    while (capacity > 0 && hr_layout_bytes(&s->schema, capacity, lead, ids) > left)
        capacity -= 1 + capacity / 64 < capacity ? 1 + capacity / 64 : capacity;
    return capacity;
}

static void used_up(hr_stream *s)
{
    hr_lease *current = s->current;
    if (current->used == 0)
        s->next_size = current->size * 2; /* a block may be larger than the segment */
    else if (hr_monotonic() - current->since < BUSY) {
        uint64_t twice = current->size * 2 < MAX_SEGMENT ? current->size * 2 : MAX_SEGMENT;
        s->next_size = twice > current->size ? twice : current->size;
    }
    free_lease(current);
    s->current = NULL;
}

static hr_chunk *take_inline(hr_stream *s, uint64_t rows, int64_t lead, bool ids)
{
    uint64_t window = (uint64_t)s->options.capacity;
    window = window < INLINE_WINDOW ? window : INLINE_WINDOW;
    uint64_t capacity = rows ? rows : hr_rows_for(&s->schema, window);
    uint64_t size = hr_layout_bytes(&s->schema, capacity, lead, ids);
    if (s->inline_bytes && s->inline_bytes + 2 * size > window)
        return NULL;
    hr_chunk *out = new_chunk(s, capacity, lead, ids);
    if (out == NULL)
        return NULL;
    out->base = take_memory(s, (size_t)size, &out->own_size);
    out->is_inline = true;
    if (out->base == NULL) {
        hr_chunk_release(s, out);
        return NULL;
    }
    return out;
}

/* A chunk with room for `rows` rows, 0 for as many as suit; NULL if there is none now. */
hr_chunk *hr_room_take(hr_stream *s, uint64_t rows, int64_t lead, bool ids)
{
    if (!s->room_mapped)
        return take_inline(s, rows, lead, ids);
    for (;;) {
        hr_lease *current = s->current;
        if (current != NULL) {
            uint64_t capacity = fitting(s, current, rows, lead, ids);
            if (capacity > 0) {
                hr_chunk *out = new_chunk(s, capacity, lead, ids);
                if (out == NULL)
                    return NULL;
                out->mapping = current->mapping;
                out->mapping->references++;
                out->base = current->mapping->data + current->used;
                out->segment = current->number;
                out->position = current->used;
                current->used += out->layout->nbytes;
                return out;
            }
            used_up(s);
        }
        s->wants_lease = true;
        if (s->leases == NULL)
            return NULL;
        s->current = s->leases;
        s->leases = s->leases->next;
        s->current->since = hr_monotonic();
    }
}

/* -------------------------------------------------------------------------- leases */

int hr_room_add(hr_stream *s, int64_t number, const char *path, uint64_t size)
{
    hr_lease *lease = calloc(1, sizeof *lease), **at = &s->leases;
    if (lease == NULL)
        return HR_ERROR_MEMORY;
    lease->mapping = hr_map(&s->maps, path, (size_t)size);
    if (lease->mapping == NULL) {
        free(lease);
        return HR_ERROR_STORAGE;
    }
    lease->number = number;
    lease->size = size;
    lease->since = hr_monotonic();
    while (*at != NULL)
        at = &(*at)->next;
    *at = lease;
    return HR_OK;
}

/* Forget what another stager leased: it does not know the segments, so that what is in them is
 * sent as bytes. A chunk being filled is filled to its end. */
void hr_room_drop(hr_stream *s, bool mapped)
{
    while (s->leases != NULL) {
        hr_lease *next = s->leases->next;
        free_lease(s->leases);
        s->leases = next;
    }
    free_lease(s->current);
    s->current = NULL;
    hr_maps_clear(&s->maps);
    s->room_mapped = s->wants_lease = mapped;
    for (hr_chunk *chunk = s->chunks; chunk != NULL; chunk = chunk->next)
        chunk->is_inline = true;
    s->inline_bytes = 0;
    for (hr_sent *sent = s->window; sent != NULL; sent = sent->next) {
        sent->chunk->is_inline = true;
        s->inline_bytes += hr_layout_packed(sent->chunk->layout, sent->count);
    }
}

void hr_window_acknowledge(hr_stream *s, uint64_t sequence)
{
    if (sequence > s->acknowledged) {
        s->statistics.acknowledged += (int64_t)(sequence - s->acknowledged);
        s->acknowledged = sequence;
    }
    while (s->window != NULL) {
        hr_sent *sent = s->window;
        if (sent->chunk->first + sent->row + sent->count > s->acknowledged)
            return;
        if (sent->chunk->is_inline) {
            uint64_t size = hr_layout_packed(sent->chunk->layout, sent->count);
            s->inline_bytes -= size < s->inline_bytes ? size : s->inline_bytes;
        }
        s->window = sent->next;
        s->n_window--;
        if (s->window == NULL)
            s->window_last = NULL;
        hr_chunk_release(s, sent->chunk);
        free(sent);
    }
}

void hr_room_free(hr_stream *s)
{
    hr_room_drop(s, false);
    while (s->window != NULL) {
        hr_sent *next = s->window->next;
        hr_chunk_release(s, s->window->chunk);
        free(s->window);
        s->window = next;
    }
    while (s->chunks != NULL) {
        hr_chunk *next = s->chunks->next;
        hr_chunk_release(s, s->chunks);
        s->chunks = next;
    }
    if (s->open != NULL)
        hr_chunk_release(s, s->open);
    s->open = NULL;
    s->window_last = NULL;
    s->chunks_last = NULL;
    while (s->n_pool > 0)
        free(s->pool[--s->n_pool]);
}
