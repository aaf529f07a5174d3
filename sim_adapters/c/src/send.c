/* What the I/O thread sends: commits, leases, records, offsets. */
#include "internal.h"

#include <stdio.h>
#include <zmq.h>

#define MAX_PARTS 64 /* parts in one commit */

/* -------------------------------------------------------------------- records; wants the lock */

/* Queue a record for a topic; takes the data. */
int hr_append_record(hr_stream *s, const char *topic, hr_buffer *data)
{
    hr_append *append = calloc(1, sizeof *append), **at = &s->appends;
    char *copy = hr_copy(topic);
    if (append == NULL || copy == NULL || data->failed) {
        free(append);
        free(copy);
        hr_buffer_free(data);
        return hr_fail_memory();
    }
    append->topic = copy;
    append->first = strcmp(topic, "events") == 0 ? s->n_events++ : s->n_acks++;
    append->data = *data;
    memset(data, 0, sizeof *data);
    while (*at != NULL)
        at = &(*at)->next;
    *at = append;
    hr_io_wake(s);
    return HR_OK;
}

/* An answered command needs not be brought again, once all before it are answered, too. */
static void command_answered(hr_stream *s, const char *id)
{
    int64_t offset = -1, lowest = INT64_MAX;
    for (hr_command_offset **at = &s->offsets; *at != NULL;) {
        hr_command_offset *entry = *at;
        if (strcmp(entry->id, id) == 0) {
            offset = entry->offset > offset ? entry->offset : offset;
            *at = entry->next;
            free(entry->id);
            free(entry);
        } else {
            lowest = entry->offset < lowest ? entry->offset : lowest;
            at = &entry->next;
        }
    }
    if (offset >= 0) {
        int64_t to = offset + 1 < lowest ? offset + 1 : lowest;
        s->to_commit = to > s->to_commit ? to : s->to_commit;
    }
}

/* Deliver what arrived. */
void hr_take_arrived(hr_stream *s)
{
    while (s->arrived != NULL) {
        hr_command *command = s->arrived;
        char *id = hr_copy(command->id);
        s->arrived = command->next;
        if (!hr_channel_deliver(&s->channel, command) && id != NULL)
            command_answered(s, id);
        free(id);
    }
}

void hr_send_answers(hr_stream *s)
{
    char topic[HR_MAX_NAME + 8];
    snprintf(topic, sizeof topic, "acks/%s", s->simulation);
    while (s->channel.answers != NULL) {
        hr_answer *answer = s->channel.answers;
        s->channel.answers = answer->next;
        hr_append_record(s, topic, &answer->data);
        command_answered(s, answer->id);
        free(answer->id);
        free(answer);
    }
}

/* ---------------------------------------------------------------------- the I/O thread's */

/* Take rows that were put and not sent yet; wants the lock. */
static size_t gather(hr_stream *s, hr_sent *out[MAX_PARTS])
{
    size_t n = 0;
    while (s->chunks != NULL && n < MAX_PARTS) {
        hr_chunk *chunk = s->chunks;
        if (chunk->filled > chunk->sent) {
            hr_sent *sent = calloc(1, sizeof *sent);
            if (sent == NULL)
                break;
            sent->chunk = chunk;
            sent->row = chunk->sent;
            sent->count = chunk->filled - chunk->sent;
            sent->stamp = chunk->stamp;
            chunk->sent = chunk->filled;
            chunk->references++;
            if (s->window_last != NULL)
                s->window_last->next = sent;
            else
                s->window = sent;
            s->window_last = sent;
            s->n_window++;
            if (chunk->is_inline)
                s->inline_bytes += hr_layout_packed(chunk->layout, sent->count);
            out[n++] = sent;
        }
        if (!chunk->closed)
            break;
        s->chunks = chunk->next;
        if (s->chunks == NULL)
            s->chunks_last = NULL;
        chunk->next = NULL;
        hr_chunk_release(s, chunk);
    }
    return n;
}

/* Send one commit of parts that are all mapped, or of one part with its bytes. */
static void commit(hr_stream *s, hr_sent *const *batch, size_t n)
{
    hr_part parts[MAX_PARTS];
    int64_t steps[MAX_PARTS], epochs[MAX_PARTS], dropped;
    double times[MAX_PARTS];
    zmq_msg_t bytes;
    bool is_inline = batch[0]->chunk->is_inline;
    memset(parts, 0, sizeof parts);
    for (size_t i = 0; i < n; i++) {
        const hr_chunk *c = batch[i]->chunk;
        const hr_layout *layout = c->layout;
        uint32_t row = batch[i]->row, last = row + batch[i]->count - 1;
        int32_t epoch;
        if (batch[i]->checksum == 0)
            batch[i]->checksum = hr_layout_checksum(layout, c->base, row, batch[i]->count);
        parts[i].segment = is_inline ? 0 : c->segment;
        parts[i].position = is_inline ? 0 : c->position;
        parts[i].capacity = is_inline ? batch[i]->count : layout->capacity;
        parts[i].row = is_inline ? 0 : row;
        parts[i].count = batch[i]->count;
        parts[i].checksum = batch[i]->checksum;
        parts[i].lead = c->lead;
        parts[i].ids = c->ids;
        parts[i].start = c->start;
        parts[i].rank = s->rank;
        memcpy(&steps[i], c->base + layout->columns[0][1] + 8 * (uint64_t)last, 8);
        memcpy(&times[i], c->base + layout->columns[1][1] + 8 * (uint64_t)last, 8);
        memcpy(&epoch, c->base + layout->columns[2][1] + 4 * (uint64_t)last, 4);
        epochs[i] = epoch;
    }
    pthread_mutex_lock(&s->lock);
    dropped = s->statistics.dropped;
    pthread_mutex_unlock(&s->lock);
    hr_commit message = {s->simulation, s->resumed.incarnation,
                         batch[0]->chunk->first + batch[0]->row, n, parts, steps, epochs, times,
                         batch[0]->stamp, is_inline, s->rank, dropped};
    hr_buffer head = {0};
    hr_say_commit(&head, ++s->session.number, &message);
    s->spoke = hr_monotonic();
    int code = HR_OK;
    if (is_inline) {
        const hr_chunk *c = batch[0]->chunk;
        if (zmq_msg_init_size(&bytes, (size_t)hr_layout_packed(c->layout, batch[0]->count)) != 0) {
            hr_buffer_free(&head);
            hr_io_problem(s, HR_ERROR_MEMORY, "There is no memory to send a frame.");
            return;
        }
        hr_layout_pack(c->layout, c->base, batch[0]->row, batch[0]->count, zmq_msg_data(&bytes));
        code = hr_session_send_parts(&s->session, &head, &bytes, 1);
    } else
        code = hr_session_send(&s->session, &head);
    if (code < 0)
        hr_io_problem(s, code, hr_last_error());
}

static void commit_all(hr_stream *s, hr_sent **sent, size_t n)
{
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        if (!sent[i]->chunk->is_inline)
            continue;
        if (i > from)
            commit(s, sent + from, i - from);
        commit(s, sent + i, 1);
        from = i + 1;
    }
    if (n > from)
        commit(s, sent + from, n - from);
}

/* Send again what was not acknowledged, after a connection was lost. */
void hr_io_resend(hr_stream *s)
{
    /* Only this thread takes entries from the window, so that they stay while they are sent. */
    pthread_mutex_lock(&s->lock);
    hr_sent *sent = s->window;
    pthread_mutex_unlock(&s->lock);
    while (sent != NULL) {
        hr_sent *batch[MAX_PARTS];
        size_t n = 0;
        for (; sent != NULL && n < MAX_PARTS; sent = sent->next)
            batch[n++] = sent;
        commit_all(s, batch, n);
    }
}

static void ask_lease(hr_stream *s)
{
    hr_buffer head = {0};
    pthread_mutex_lock(&s->lock);
    bool ask = s->wants_lease && !s->lease_number;
    uint64_t size = s->next_size, number = 0;
    if (ask) {
        s->wants_lease = false;
        if (s->session.mapped) {
            number = s->lease_number = ++s->session.number;
            s->lease_asked = s->lease_asked != 0.0 ? s->lease_asked : hr_monotonic();
        }
    }
    pthread_mutex_unlock(&s->lock);
    if (number != 0) {
        hr_say_lease(&head, number, s->simulation, s->resumed.incarnation, size, s->rank);
        hr_io_send(s, &head);
    }
}

static void send_appends(hr_stream *s)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);
        hr_append *append = s->appends, **at = &s->unanswered;
        if (append != NULL) {
            s->appends = append->next;
            append->next = NULL;
            append->number = ++s->session.number;
            while (*at != NULL)
                at = &(*at)->next;
            *at = append;
        }
        pthread_mutex_unlock(&s->lock);
        if (append == NULL)
            return;
        /* The token makes an append that is sent twice count once. */
        hr_buffer head = {0};
        zmq_msg_t data;
        hr_say_append(&head, append->number, append->topic, s->token, append->first,
                      append->first + 1, hr_now(), NULL);
        if (zmq_msg_init_size(&data, append->data.size) != 0) {
            hr_buffer_free(&head);
            return;
        }
        memcpy(zmq_msg_data(&data), append->data.data, append->data.size);
        s->spoke = hr_monotonic();
        if (hr_session_send_parts(&s->session, &head, &data, 1) < 0)
            hr_io_problem(s, HR_ERROR_LOST, hr_last_error());
    }
}

static void send_offsets(hr_stream *s)
{
    char topic[HR_MAX_NAME + 16], group[HR_MAX_NAME + 16];
    pthread_mutex_lock(&s->lock);
    hr_topic_offset offset = {topic, s->to_commit};
    s->to_commit = -1;
    pthread_mutex_unlock(&s->lock);
    if (offset.offset < 0)
        return;
    hr_buffer head = {0};
    snprintf(topic, sizeof topic, "commands/%s", s->simulation);
    snprintf(group, sizeof group, "simulation/%s", s->simulation);
    hr_say_offsets(&head, ++s->session.number, group, &offset, 1, 0);
    hr_io_send(s, &head);
}

/* Send all there is; true if there may be more. */
bool hr_io_send_all(hr_stream *s)
{
    hr_sent *sent[MAX_PARTS];
    pthread_mutex_lock(&s->lock);
    size_t n = gather(s, sent);
    pthread_mutex_unlock(&s->lock);
    if (n > 0)
        commit_all(s, sent, n);
    ask_lease(s);
    pthread_mutex_lock(&s->lock);
    bool looks = s->wants_stops && !s->sees_stops;
    s->sees_stops = s->sees_stops || looks;
    pthread_mutex_unlock(&s->lock);
    if (looks)
        hr_io_fetch_commands(s);
    send_appends(s);
    send_offsets(s);
    return n == MAX_PARTS;
}
