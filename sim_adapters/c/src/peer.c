/* What the stager says to the I/O thread, and finding it again. */
#include "internal.h"

#include <stdio.h>

#define COMMAND_WAIT 30.0 /* seconds for which one request for commands waits at the stager */

static void topic_name(const hr_stream *s, const char *kind, char *out)
{
    snprintf(out, HR_MAX_NAME + 16, "%s/%s", kind, s->simulation);
}

/* ------------------------------------------------------------------------- opening */

int hr_io_open_stream(hr_stream *s, int64_t incarnation, uint64_t sequence, hr_reply *reply)
{
    hr_message message = {0};
    hr_buffer head = {0};
    uint64_t number = ++s->session.number;
    hr_say_open(&head, number, s->simulation, &s->schema, &s->options, s->token, incarnation,
                s->rank, s->capabilities, s->n_capabilities, sequence);
    int code = hr_session_ask(&s->session, &head, number, HR_OPENED, 0.0, &message, reply);
    hr_message_free(&message);
    return code;
}

/* The state of one of our topics; low = end = 0 where there is none. */
static int find_topic(hr_stream *s, const char *topic, const char *group, hr_topic_state *out,
                      int64_t *committed)
{
    hr_message message = {0};
    hr_buffer head = {0};
    hr_reply reply;
    uint64_t number = ++s->session.number;
    memset(out, 0, sizeof *out);
    *committed = 0;
    hr_say_query(&head, number, topic, false);
    int code = hr_session_ask(&s->session, &head, number, HR_TOPICS, 0.0, &message, &reply);
    if (code == HR_OK) {
        hr_reader r = hr_reader_of(reply.list.data, reply.list.size);
        size_t n = hr_read_array(&r);
        hr_topic_state state;
        for (size_t i = 0; i < n && hr_read_topic(&r, &state); i++)
            if (hr_span_is(state.name, topic)) {
                *committed = hr_group_offset(state.groups, group);
                out->low = state.low;
                out->end = state.end;
            }
    }
    hr_message_free(&message);
    return code;
}

int hr_find_commands(hr_stream *s, int64_t *position)
{
    char topic[HR_MAX_NAME + 16], group[HR_MAX_NAME + 16];
    hr_topic_state state;
    topic_name(s, "commands", topic);
    topic_name(s, "simulation", group);
    int code = find_topic(s, topic, group, &state, position);
    if (*position < state.low)
        *position = state.low;
    return code;
}

/* Learn which commands earlier lives have answered. */
int hr_find_answered(hr_stream *s)
{
    char topic[HR_MAX_NAME + 16];
    hr_topic_state state;
    int64_t ignored, position;
    topic_name(s, "acks", topic);
    int code = find_topic(s, topic, "", &state, &ignored);
    for (position = state.low; code == HR_OK && position < state.end;) {
        hr_message message = {0};
        hr_buffer head = {0};
        hr_reply reply;
        hr_topic_offset from = {topic, position};
        hr_fetch fetch = {&from, NULL, 1, 0, "", "", 4096, 16 << 20, 0.0, 0, false, NULL, 0, false};
        uint64_t number = ++s->session.number;
        hr_say_fetch(&head, number, &fetch);
        code = hr_session_ask(&s->session, &head, number, HR_FETCHED, 0.0, &message, &reply);
        int64_t next = position + 1;
        hr_slice slice;
        hr_reader r = code == HR_OK ? hr_reader_of(reply.list.data, reply.list.size)
                                    : hr_reader_of(NULL, 0);
        if (code == HR_OK && hr_read_array(&r) > 0 && hr_read_slice(&r, &slice))
            next = slice.position > next ? slice.position : next;
        for (size_t i = 1; i < message.n; i++) {
            hr_span data = hr_message_part(&message, i);
            hr_reader fields = hr_reader_of(data.data, data.size);
            size_t n = hr_read_map(&fields);
            for (size_t k = 0; k < n && !fields.failed; k++) {
                bool is_id = hr_span_is(hr_read_text(&fields), "command");
                hr_span value = hr_read_any(&fields);
                hr_reader text = hr_reader_of(value.data, value.size);
                hr_span id = is_id ? hr_read_text(&text) : value;
                if (is_id && !text.failed)
                    hr_channel_remember(&s->channel, (const char *)id.data, id.size);
            }
        }
        hr_message_free(&message);
        position = next;
    }
    return code;
}

void hr_io_fetch_commands(hr_stream *s)
{
    char topic[HR_MAX_NAME + 16];
    hr_topic_offset from = {topic, s->command_position};
    hr_fetch fetch = {&from, NULL, 1, 0, "", "", 4096, 16 << 20, COMMAND_WAIT, 0, true, NULL, 0,
                      false};
    hr_buffer head = {0};
    if (s->rank != 0 && !s->sees_stops)
        return;
    topic_name(s, "commands", topic);
    hr_say_fetch(&head, ++s->session.number, &fetch);
    hr_io_send(s, &head);
}

/* --------------------------------------------------------------------- finding again */

/* Introduce the stream again, learn what is stored, and send the rest again. */
void hr_io_reconnect(hr_stream *s)
{
    char before[sizeof s->session.instance];
    double patience = s->session.timeout;
    hr_reply opened;
    memcpy(before, s->session.instance, sizeof before);
    pthread_mutex_lock(&s->lock);
    s->statistics.reconnects++;
    uint64_t acknowledged = s->acknowledged;
    pthread_mutex_unlock(&s->lock);
    s->session.timeout = 3.0;
    int code = hr_session_hello(&s->session, false);
    if (code == HR_OK)
        code = hr_io_open_stream(s, s->resumed.incarnation, acknowledged, &opened);
    bool is_new = strcmp(before, s->session.instance) != 0;
    if (code == HR_OK && is_new)
        code = hr_find_commands(s, &s->command_position);
    s->session.timeout = patience;
    s->heard = hr_monotonic();
    if (code < 0) {
        hr_io_problem(s, code, hr_last_error());
        if (is_new) /* what is new about it has to be seen at the next attempt as well */
            memcpy(s->session.instance, before, sizeof before);
        if (code == HR_ERROR_STALE || code == HR_ERROR_SCHEMA || code == HR_ERROR_VERSION)
            hr_io_fail(s, code, hr_last_error());
        return;
    }
    pthread_mutex_lock(&s->lock);
    hr_window_acknowledge(s, opened.numbers[1] > 0 ? (uint64_t)opened.numbers[1] : 0);
    if (is_new)
        hr_room_drop(s, s->session.mapped);
    s->lease_number = 0;
    s->wants_lease = s->room_mapped && s->leases == NULL;
    /* What may or may not have arrived goes first: the stager knows it by its number. */
    hr_append **at = &s->unanswered;
    while (*at != NULL)
        at = &(*at)->next;
    *at = s->appends;
    s->appends = s->unanswered;
    s->unanswered = NULL;
    s->problem = 0;
    pthread_mutex_unlock(&s->lock);
    hr_io_resend(s);
    hr_io_fetch_commands(s);
}

/* ------------------------------------------------------------------------- answers */

static void take_lease(hr_stream *s, const hr_reply *reply)
{
    char *path = hr_span_copy(reply->texts[0]);
    pthread_mutex_lock(&s->lock);
    if (reply->request == s->lease_number) {
        s->lease_number = 0;
        s->lease_asked = 0.0;
        /* Where it cannot be mapped it was taken away again, as when a newer life began: asking
         * anew tells why. */
        if (path == NULL || reply->numbers[1] <= 0 ||
            hr_room_add(s, reply->numbers[0], path, (uint64_t)reply->numbers[1]) < 0)
            s->wants_lease = true;
    }
    pthread_mutex_unlock(&s->lock);
    free(path);
}

static void take_stop(hr_stream *s, hr_span data)
{
    hr_command *command = hr_command_decode(data);
    if (command == NULL || strcmp(command->kind, "stop") != 0)
        hr_command_free(command);
    else {
        command->next = s->stops;
        s->stops = command;
    }
}

static void take_record(hr_stream *s, hr_span data, int64_t offset)
{
    hr_command *command = hr_command_decode(data), **at = &s->arrived;
    hr_command_offset *entry = calloc(1, sizeof *entry);
    char *id = command == NULL ? NULL : hr_copy(command->id);
    if (id == NULL || entry == NULL) { /* somebody wrote what is no command: it stays behind */
        hr_command_free(command);
        free(entry);
        free(id);
        return;
    }
    entry->id = id;
    entry->offset = offset;
    entry->next = s->offsets;
    s->offsets = entry;
    while (*at != NULL)
        at = &(*at)->next;
    *at = command;
}

static void take_commands(hr_stream *s, const hr_message *message, const hr_reply *reply)
{
    hr_reader r = hr_reader_of(reply->list.data, reply->list.size);
    size_t n = hr_read_array(&r), part = 1;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < n; i++) {
        hr_slice slice;
        if (!hr_read_slice(&r, &slice))
            break;
        s->command_position = slice.position > slice.low ? slice.position : slice.low;
        hr_reader records = hr_reader_of(slice.records.data, slice.records.size);
        size_t count = slice.records.size ? hr_read_array(&records) : 0;
        for (size_t k = 0; k < count && part < message->n; k++, part++) {
            size_t fields = hr_read_array(&records);
            int64_t offset = hr_read_int(&records);
            for (size_t f = 1; f < fields; f++)
                hr_read_any(&records);
            if (!records.failed && s->rank == 0)
                take_record(s, hr_message_part(message, part), offset);
            else if (!records.failed)
                take_stop(s, hr_message_part(message, part));
        }
    }
    pthread_mutex_unlock(&s->lock);
    hr_io_fetch_commands(s);
}

static void forget_append(hr_stream *s, uint64_t number)
{
    pthread_mutex_lock(&s->lock);
    for (hr_append **at = &s->unanswered; *at != NULL; at = &(*at)->next)
        if ((*at)->number == number) {
            hr_append *gone = *at;
            *at = gone->next;
            hr_buffer_free(&gone->data);
            free(gone->topic);
            free(gone);
            break;
        }
    pthread_mutex_unlock(&s->lock);
}

static void take_refusal(hr_stream *s, const hr_reply *reply)
{
    hr_span name = reply->texts[0], said = reply->texts[1];
    int code = hr_code_of((const char *)name.data, name.size);
    char text[HR_TEXT];
    snprintf(text, sizeof text, "%.*s", (int)(said.size < HR_TEXT ? said.size : HR_TEXT - 1),
             (const char *)said.data);
    if (hr_span_is(name, "NotIntroduced")) {
        hr_io_reconnect(s);
        return;
    }
    pthread_mutex_lock(&s->lock);
    bool is_lease = reply->request == s->lease_number && code == HR_ERROR_STORAGE;
    if (is_lease) {
        s->lease_number = 0;
        s->wants_lease = true;
    }
    pthread_mutex_unlock(&s->lock);
    if (is_lease) {
        hr_io_problem(s, code, text);
        hr_sleep(0.05); /* before it is asked for again */
        return;
    }
    forget_append(s, reply->request);
    if (code == HR_ERROR_STALE || code == HR_ERROR_SCHEMA || code == HR_ERROR_PROTOCOL ||
        code == HR_ERROR_VERSION) {
        hr_io_fail(s, code, text);
        return;
    }
    hr_io_problem(s, code, text);
    /* What was refused for a passing reason is sent again when the stream is opened anew. */
    hr_sleep(0.1);
    hr_io_reconnect(s);
}

void hr_io_hear(hr_stream *s, const hr_message *message)
{
    hr_span head = hr_message_part(message, 0);
    hr_reply reply;
    int code = hr_decode_reply(&reply, head.data, head.size);
    if (code < 0) {
        hr_io_fail(s, code, hr_last_error());
        return;
    }
    switch (reply.kind) {
    case HR_ACK:
        pthread_mutex_lock(&s->lock);
        hr_window_acknowledge(s, reply.numbers[0] > 0 ? (uint64_t)reply.numbers[0] : 0);
        pthread_mutex_unlock(&s->lock);
        break;
    case HR_LEASED: take_lease(s, &reply); break;
    case HR_FETCHED: take_commands(s, message, &reply); break;
    case HR_APPENDED: forget_append(s, reply.request); break;
    case HR_REFUSED: take_refusal(s, &reply); break;
    default: break;
    }
}
