/* A conversation with one stager over a DEALER socket: requests, answers, repeats, limits. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <zmq.h>

#define REPEAT_AFTER 3.0 /* seconds without an answer; no request does a thing twice */
#define MAX_QUEUED 10000
#define MAX_PART ((int64_t)(1ULL << 33) + (1 << 24))
#define MAX_PARTS_IN 65536

hr_span hr_message_part(const hr_message *message, size_t i)
{
    zmq_msg_t *part = (zmq_msg_t *)message->parts + i;
    hr_span out = {zmq_msg_data(part), zmq_msg_size(part)};
    return out;
}

void hr_message_free(hr_message *message)
{
    for (size_t i = 0; i < message->n; i++)
        zmq_msg_close((zmq_msg_t *)message->parts + i);
    free(message->parts);
    memset(message, 0, sizeof *message);
}

static int lost(const hr_session *s)
{
    return hr_fail(HR_ERROR_LOST,
                   "The stager at %.300s has not answered for %g s; it may have ended, or the way "
                   "to it is cut.", s->address, s->timeout);
}

/* ------------------------------------------------------------------------- the socket */

static int set_number(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value);
}

static bool configure(hr_session *s)
{
    char name[33];
    uint8_t id[16] = {'h'};
    int64_t largest = MAX_PART;
    void *k = s->socket;
    if (!hr_random_hex(name, 16))
        return false;
    for (int i = 1; i < 16; i++)
        id[i] = (uint8_t)(name[2 * i] ^ (name[2 * i + 1] << 3));
    bool ok = zmq_setsockopt(k, ZMQ_ROUTING_ID, id, sizeof id) == 0 &&
              set_number(k, ZMQ_LINGER, 1000) == 0 && set_number(k, ZMQ_SNDHWM, MAX_QUEUED) == 0 &&
              set_number(k, ZMQ_RCVHWM, MAX_QUEUED) == 0 &&
              zmq_setsockopt(k, ZMQ_MAXMSGSIZE, &largest, sizeof largest) == 0 &&
              set_number(k, ZMQ_RECONNECT_IVL, 100) == 0 &&
              set_number(k, ZMQ_RECONNECT_IVL_MAX, 1000) == 0 &&
              set_number(k, ZMQ_CONNECT_TIMEOUT, 5000) == 0 &&
              set_number(k, ZMQ_HEARTBEAT_IVL, 2000) == 0 &&
              set_number(k, ZMQ_HEARTBEAT_TIMEOUT, 10000) == 0 &&
              set_number(k, ZMQ_HEARTBEAT_TTL, 10000) == 0;
    if (ok && strchr(s->address, '[') != NULL)
        ok = set_number(k, ZMQ_IPV6, 1) == 0;
    return ok;
}

static int connect_to(hr_session *s)
{
    if (strncmp(s->address, "tcp://", 6) != 0 && strncmp(s->address, "ipc://", 6) != 0)
        return hr_fail(HR_ERROR_CONFIG,
                       "The stager's address '%.300s' is not of the form tcp://host:port or "
                       "ipc://path.", s->address);
    if (s->keys.given) {
        if (!zmq_has("curve"))
            return hr_fail(HR_ERROR_CONFIG, "This libzmq was built without CURVE, so that keys "
                                            "cannot be used; install one that has it.");
        if (zmq_setsockopt(s->socket, ZMQ_CURVE_SERVERKEY, s->keys.stager, 41) != 0 ||
            zmq_setsockopt(s->socket, ZMQ_CURVE_PUBLICKEY, s->keys.own_public, 41) != 0 ||
            zmq_setsockopt(s->socket, ZMQ_CURVE_SECRETKEY, s->keys.own_secret, 41) != 0)
            return hr_fail(HR_ERROR_CONFIG, "The keys were not taken: %s.", zmq_strerror(errno));
    }
    hr_handshake_watch(s);
    if (zmq_connect(s->socket, s->address) != 0)
        return hr_fail(HR_ERROR_CONFIG, "Cannot connect to %.300s: %s.", s->address,
                       zmq_strerror(errno));
    return HR_OK;
}

int hr_session_open(hr_session *s)
{
    int code = HR_OK;
    s->wake[0] = s->wake[1] = -1;
    s->context = zmq_ctx_new();
    s->socket = s->context == NULL ? NULL : zmq_socket(s->context, ZMQ_DEALER);
    bool piped = s->socket != NULL && pipe(s->wake) == 0;
    for (int i = 0; i < 2 && piped; i++)
        piped = fcntl(s->wake[i], F_SETFL, O_NONBLOCK) == 0 &&
                fcntl(s->wake[i], F_SETFD, FD_CLOEXEC) == 0;
    if (!piped || !configure(s))
        code = hr_fail(HR_ERROR_MEMORY, "Cannot make a socket: %s.", zmq_strerror(errno));
    if (code == HR_OK)
        code = connect_to(s);
    if (code == HR_OK)
        code = hr_session_hello(s, true);
    if (code < 0)
        hr_session_close(s);
    return code;
}

void hr_session_close(hr_session *s)
{
    if (s->socket != NULL) {
        hr_buffer bye = {0};
        hr_say_bye(&bye, ++s->number, "", 0, 0, false, 0, "");
        /* Whether it is heard or not, the last error is that of whoever closes. */
        if (!bye.failed)
            zmq_send(s->socket, bye.data, bye.size, ZMQ_DONTWAIT);
        hr_buffer_free(&bye);
        hr_handshake_close(s);
        zmq_close(s->socket);
    }
    if (s->context != NULL)
        while (zmq_ctx_term(s->context) != 0 && errno == EINTR)
            continue;
    for (int i = 0; i < 2; i++)
        if (s->wake[i] >= 0)
            close(s->wake[i]);
    s->wake[0] = s->wake[1] = -1;
    s->context = s->socket = NULL;
}

void hr_session_wake(hr_session *s)
{
    /* A full pipe wakes as well. */
    if (s->wake[1] >= 0 && write(s->wake[1], "", 1) < 0)
        return;
}

int hr_session_send_parts(hr_session *s, hr_buffer *head, void *parts, size_t n)
{
    zmq_msg_t *rest = parts;
    int code = head->failed ? hr_fail_memory() : HR_OK;
    if (code == HR_OK && zmq_send(s->socket, head->data, head->size,
                                  ZMQ_DONTWAIT | (n > 0 ? ZMQ_SNDMORE : 0)) < 0)
        code = lost(s);
    for (size_t i = 0; i < n; i++) {
        if (code == HR_OK &&
            zmq_msg_send(&rest[i], s->socket, ZMQ_DONTWAIT | (i + 1 < n ? ZMQ_SNDMORE : 0)) < 0)
            code = lost(s);
        zmq_msg_close(&rest[i]);
    }
    hr_buffer_free(head);
    return code;
}

int hr_session_send(hr_session *s, hr_buffer *head)
{
    return hr_session_send_parts(s, head, NULL, 0);
}

/* 1: a whole message; 0: there is none. */
static int receive_now(hr_session *s, hr_message *message)
{
    for (;;) {
        if (message->n == message->room) {
            size_t room = 2 * message->room + 4;
            void *grown = message->n < MAX_PARTS_IN
                              ? realloc(message->parts, room * sizeof(zmq_msg_t)) : NULL;
            if (grown == NULL)
                return hr_fail_memory();
            message->parts = grown;
            message->room = room;
        }
        zmq_msg_t *part = (zmq_msg_t *)message->parts + message->n;
        zmq_msg_init(part);
        if (zmq_msg_recv(part, s->socket, ZMQ_DONTWAIT) < 0) {
            bool wait = errno == EAGAIN || errno == EINTR;
            zmq_msg_close(part);
            if (message->n > 0 && wait)
                continue; /* the parts of a message arrive together */
            return wait ? 0 : hr_fail(HR_ERROR_LOST, "Cannot receive from %.300s: %s.", s->address,
                                      zmq_strerror(errno));
        }
        message->n++;
        if (!zmq_msg_more(part))
            return 1;
    }
}

int hr_session_receive(hr_session *s, hr_message *message, double timeout)
{
    char bin[64];
    int code = receive_now(s, message);
    if (code != 0 || timeout <= 0.0)
        return code;
    zmq_pollitem_t items[2] = {{s->socket, 0, ZMQ_POLLIN, 0}, {NULL, s->wake[0], ZMQ_POLLIN, 0}};
    zmq_poll(items, 2, (long)(timeout < 3600.0 ? ceil(timeout * 1000.0) : 3600000.0));
    while (read(s->wake[0], bin, sizeof bin) == sizeof bin)
        continue;
    hr_handshake_look(s);
    return receive_now(s, message);
}

/* ---------------------------------------------------------------------------- asking */

/* Wait for the answer to one request; others are passed over. 1: it came; 0: it did not. */
static int wait_for(hr_session *s, uint64_t number, double until, hr_message *message,
                    hr_reply *reply)
{
    for (;;) {
        double left = until - hr_monotonic();
        if (left <= 0.0 || (s->stop != NULL && s->stop(s->stop_argument)))
            return 0;
        hr_message_free(message);
        int code = hr_session_receive(s, message, left < 0.2 ? left : 0.2);
        if (code < 0)
            return code;
        if (code == 0 && hr_handshake_fail(s) < 0)
            return HR_ERROR_KEYS;
        if (code == 0)
            continue;
        hr_span head = hr_message_part(message, 0);
        code = hr_decode_reply(reply, head.data, head.size);
        if (code < 0)
            return code;
        if (reply->request == number)
            return 1;
    }
}

static int refused(const hr_reply *reply)
{
    hr_span code = reply->texts[0], text = reply->texts[1];
    return hr_fail(hr_code_of((const char *)code.data, code.size), "%.*s",
                   (int)(text.size < HR_TEXT ? text.size : HR_TEXT), (const char *)text.data);
}

static int nobody(const hr_session *s)
{
    return hr_fail(HR_ERROR_NOBODY,
                   "Waited %g s for a stager at %.300s; nobody answered. Start one with "
                   "'headrace stage', or check the address.", s->timeout, s->address);
}

int hr_session_hello(hr_session *s, bool first)
{
    hr_message message = {0};
    hr_reply reply;
    uint64_t number = ++s->number;
    double end = hr_monotonic() + s->timeout;
    int code = 0;
    if (s->shake != HR_SHAKE_OPEN) {
        /* libzmq gives a connection up for good when its handshake was refused. */
        s->shake = HR_SHAKE_OPEN;
        s->broken_off = 0;
        zmq_disconnect(s->socket, s->address);
        if (zmq_connect(s->socket, s->address) != 0)
            return lost(s);
    }
    while (code == 0) {
        hr_buffer hello = {0};
        hr_say_hello(&hello, number, s->name, "");
        code = hr_session_send(s, &hello);
        double until = hr_monotonic() + REPEAT_AFTER;
        if (code == HR_OK)
            code = wait_for(s, number, until < end ? until : end, &message, &reply);
        if (code == 0 && (hr_monotonic() >= end || (s->stop != NULL && s->stop(s->stop_argument))))
            code = first ? nobody(s) : lost(s);
    }
    if (code == 1 && reply.kind == HR_REFUSED)
        code = refused(&reply);
    else if (code == 1 && reply.kind != HR_WELCOME)
        code = hr_fail(HR_ERROR_PROTOCOL, "Welcome was expected; something else came.");
    if (code == 1) {
        char *path = hr_span_copy(reply.texts[2]), *nonce = hr_span_copy(reply.texts[3]);
        hr_span name = reply.texts[0];
        snprintf(s->instance, sizeof s->instance, "%.*s",
                 (int)(name.size < sizeof s->instance ? name.size : sizeof s->instance),
                 (const char *)name.data);
        s->mapped = s->wanted >= 0 ? s->wanted != 0
                                   : path != NULL && nonce != NULL && hr_shares_node(path, nonce);
        free(path);
        free(nonce);
        code = HR_OK;
    }
    hr_message_free(&message);
    return code;
}

/* HR_OK if a reply is of the kind that was asked for. */
static int judge(const hr_reply *reply, hr_reply_kind kind)
{
    if (reply->kind == HR_REFUSED)
        return refused(reply);
    if (reply->kind != kind)
        return hr_fail(HR_ERROR_PROTOCOL, "The stager answered with something that was not asked "
                                          "for; check that both sides are of the same release.");
    return HR_OK;
}

/* Ask, and wait for an answer of a kind; reply and message stay valid until hr_message_free. */
int hr_session_ask(hr_session *s, hr_buffer *request, uint64_t number, hr_reply_kind kind,
                   double wait, hr_message *message, hr_reply *reply)
{
    double end = hr_monotonic() + s->timeout + wait;
    int code = 0;
    while (code == 0) {
        hr_buffer copy = {0};
        hr_write_bytes(&copy, request->data, request->size);
        copy.failed = copy.failed || request->failed;
        code = hr_session_send(s, &copy);
        double until = hr_monotonic() + REPEAT_AFTER + wait;
        if (code == HR_OK)
            code = wait_for(s, number, until < end ? until : end, message, reply);
        if (code == 0 && (hr_monotonic() >= end || (s->stop != NULL && s->stop(s->stop_argument))))
            code = lost(s);
        if (code == 1 && reply->kind == HR_REFUSED && hr_span_is(reply->texts[0], "NotIntroduced")) {
            code = hr_session_hello(s, false);
            if (code == HR_OK && hr_monotonic() >= end)
                code = lost(s);
        }
    }
    hr_buffer_free(request);
    return code == 1 ? judge(reply, kind) : code;
}

int hr_session_await(hr_session *s, uint64_t number, hr_reply_kind kind, double timeout,
                     hr_message *message, hr_reply *reply)
{
    int code = wait_for(s, number, hr_monotonic() + timeout, message, reply);
    if (code == 0)
        code = lost(s);
    return code == 1 ? judge(reply, kind) : code;
}
