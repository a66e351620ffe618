/* Connections and listeners as a host sees and directs them. */
#define _GNU_SOURCE
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char *const TRANSPORTS[] = {"tcp://127.0.0.1:0", "unix:connections.sock", "unix-seqpacket:records.sock",
                                         "unix-seqpacket:@resay-connections-%d"};

static resay_connection get(resay_engine *engine, uint64_t id)
{
  resay_connection found;
  memset(&found, 0x55, sizeof found);
  found.struct_size = sizeof found;
  CHECK_CODE(resay_connection_get(engine, id, &found), 0);
  CHECK(found.connection == id && found.struct_size == sizeof found);
  return found;
}

/* The only connection of a listener. */
static uint64_t only(resay_engine *engine, resay_id listener)
{
  uint64_t id = 0;
  size_t count = 0;
  CHECK_CODE(resay_connections(engine, listener, &id, 1, &count), 0);
  CHECK(count == 1 && id != 0 && id != listener);
  return id;
}

static void wait_for_none(resay_engine *engine, resay_id listener)
{
  size_t count = 1;
  int tries = 0;
  while (resay_connections(engine, listener, NULL, 0, &count) != 0 || count != 0) {
    CHECK(tries++ < PATIENCE_MS);
    poll(NULL, 0, 1);
  }
}

/* A URL with this process in it, where it has a place for that. */
static const char *url_of(const char *pattern)
{
  static char url[128];
  snprintf(url, sizeof url, pattern, (int)getpid());
  return url;
}

static void every_call_is_refused(resay_engine *engine, uint64_t id)
{
  resay_connection found;
  found.struct_size = sizeof found;
  CHECK_CODE(resay_connection_get(engine, id, &found), RESAY_E_HANDLE);
  CHECK_CODE(resay_connection_send(engine, id, "x", 1), RESAY_E_HANDLE);
  CHECK_CODE(resay_connection_shutdown(engine, id), RESAY_E_HANDLE);
  CHECK_CODE(resay_connection_close(engine, id), RESAY_E_HANDLE);
  CHECK_CODE(resay_connection_reset(engine, id), RESAY_E_HANDLE);
  CHECK_CODE(resay_connection_pause(engine, id), RESAY_E_HANDLE);
  CHECK_CODE(resay_connection_resume(engine, id), RESAY_E_HANDLE);
}

static void every_listener_call_is_refused(resay_engine *engine, resay_id id)
{
  resay_address address;
  char text[8];
  size_t count;
  CHECK_CODE(resay_connections(engine, id, NULL, 0, &count), RESAY_E_HANDLE);
  CHECK_CODE(resay_listener_pause(engine, id), RESAY_E_HANDLE);
  CHECK_CODE(resay_listener_resume(engine, id), RESAY_E_HANDLE);
  CHECK_CODE(resay_listener_reset(engine, id), RESAY_E_HANDLE);
  CHECK_CODE(resay_listener_accept(engine, id, 0), RESAY_E_HANDLE);
  CHECK_CODE(resay_listener_address(engine, id, &address), RESAY_E_HANDLE);
  CHECK_CODE(resay_listener_option(engine, id, "backlog", text, sizeof text, NULL), RESAY_E_HANDLE);
  CHECK_CODE(resay_listener_chain(engine, id, text, sizeof text, NULL), id == 0 ? 0 : RESAY_E_HANDLE);
  CHECK_CODE(resay_listener_close(engine, id), RESAY_E_HANDLE);
}

/* One counter a process: what one engine has means nothing to another. */
static void ids_of_two_engines(void)
{
  resay_engine *first = new_engine(), *second = new_engine();
  char url[128], other[128];
  resay_id listener = add(first, "tcp://127.0.0.1:0", url), its = add(second, "tcp://127.0.0.1:0", other);
  resay_client *client;
  uint64_t id;
  CHECK(listener != its);
  CHECK_CODE(resay_start(first, 2, NULL), 0);
  CHECK_CODE(resay_start(second, 1, NULL), 0);
  client = dial(url);
  ask(client, "x", "x");
  id = only(first, listener);
  every_call_is_refused(second, id);
  every_call_is_refused(first, id + 1);
  every_call_is_refused(first, listener);
  every_call_is_refused(first, 0);
  every_listener_call_is_refused(second, listener);
  every_listener_call_is_refused(first, id);
  ask_once(other, "x", "x");
  resay_client_free(client);
  wait_for_none(first, listener);
  every_call_is_refused(first, id);
  CHECK_CODE(resay_listener_close(first, listener), 0);
  every_listener_call_is_refused(first, listener);
  CHECK_CODE(resay_connections(first, 0, NULL, 0, NULL), RESAY_E_ARG);
  resay_engine_free(first);
  resay_engine_free(second);
}

static void what_a_connection_is(void)
{
  for (size_t n = 0; n < sizeof TRANSPORTS / sizeof *TRANSPORTS; n++) {
    const char *what = url_of(TRANSPORTS[n]);
    int is_tcp = strncmp(what, "tcp", 3) == 0, is_unix = strncmp(what, "unix", 4) == 0;
    resay_engine *engine = new_engine();
    char url[128];
    resay_id listener = add(engine, what, url);
    resay_client *client;
    resay_connection found;
    resay_address bound;
    uint64_t id;
    CHECK_CODE(resay_start(engine, 2, NULL), 0);
    client = dial(url);
    ask(client, "hello", "hello");
    id = only(engine, listener);
    found = get(engine, id);
    CHECK(found.kind == (strstr(what, "seqpacket") ? RESAY_SEQPACKET : RESAY_STREAM) && found.listener == listener);
    CHECK(found.state == RESAY_CONNECTION_OPEN && found.worker < 2 && found.is_paused == 0);
    CHECK(found.bytes_in == 5 && found.bytes_out == 5 && found.waiting_bytes == 0);
    CHECK_CODE(resay_listener_address(engine, listener, &bound), 0);
    CHECK(bound.len == found.local.len && memcmp(bound.words, found.local.words, sizeof bound.words) == 0);
    if (is_tcp) {
      struct sockaddr_in peer, local;
      memcpy(&peer, found.peer.words, sizeof peer);
      memcpy(&local, found.local.words, sizeof local);
      CHECK(found.peer.len == sizeof peer && peer.sin_family == AF_INET && peer.sin_port != 0);
      CHECK(local.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
      CHECK(ntohs(local.sin_port) == resay_listener_port(engine, listener));
      CHECK(found.pid == -1 && found.uid == UINT32_MAX && found.gid == UINT32_MAX);
    }
    if (is_unix) {
      struct sockaddr_un local;
      memcpy(&local, found.local.words, sizeof local);
      CHECK(local.sun_family == AF_UNIX);
      CHECK(found.peer.len == sizeof(sa_family_t) || found.peer.len == 8); /* nobody, or an autobound name (unix(7)) */
      CHECK(found.pid == getpid() && found.uid == geteuid() && found.gid == getegid());
    }
    /* An older program knows less of it. */
    memset(&found, 0x55, sizeof found);
    found.struct_size = offsetof(resay_connection, listener);
    CHECK_CODE(resay_connection_get(engine, id, &found), 0);
    CHECK(found.connection == id && found.state == 0x55555555);
    found.struct_size = 0;
    CHECK_CODE(resay_connection_get(engine, id, &found), RESAY_E_ARG);
    CHECK_CODE(resay_connection_get(engine, id, NULL), RESAY_E_ARG);
    resay_client_free(client);
    resay_engine_free(engine);
  }
}

/* The peer is whom a proxy names; the proxy is beside it. */
static void what_a_proxy_says(void)
{
  resay_engine *engine = new_engine();
  char url[128];
  resay_id listener = add(engine, "tcp://127.0.0.1:0?proxy=v1", url);
  resay_client *client;
  resay_connection found;
  struct sockaddr_in address;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  ask(client, "PROXY TCP4 192.0.2.7 198.51.100.1 50312 443\r\na", "a");
  found = get(engine, only(engine, listener));
  memcpy(&address, found.peer.words, sizeof address);
  CHECK(found.peer.len == sizeof address && address.sin_addr.s_addr == inet_addr("192.0.2.7"));
  CHECK(ntohs(address.sin_port) == 50312);
  memcpy(&address, found.via.words, sizeof address);
  CHECK(found.via.len == sizeof address && address.sin_addr.s_addr == inet_addr("127.0.0.1"));
  resay_client_free(client);
  resay_engine_free(engine);
}

/* Pushes arrive, in order with answers and behind delayed ones. */
static void sends_unasked(void)
{
  for (size_t n = 0; n < sizeof TRANSPORTS / sizeof *TRANSPORTS; n++) {
    int is_record = strstr(TRANSPORTS[n], "seqpacket") != NULL;
    resay_engine *engine = new_engine();
    char url[128];
    resay_id listener = add(engine, url_of(TRANSPORTS[n]), url);
    resay_client *client;
    uint64_t id;
    resay_stats stats;
    CHECK_CODE(resay_start(engine, 1, NULL), 0);
    client = dial(url);
    ask(client, "a", "a");
    id = only(engine, listener);
    CHECK_CODE(resay_connection_send(engine, id, "pushed", 6), 0);
    hear(client, "pushed", 6);
    CHECK_CODE(resay_connection_send(engine, id, NULL, 1), RESAY_E_ARG);
    CHECK_CODE(resay_connection_send(engine, id, NULL, 0), 0);
    if (is_record) {
      char byte;
      size_t got = 7;
      CHECK_CODE(resay_client_recv(client, &byte, 1, &got, PATIENCE_MS), 0);
      CHECK(got == 0); /* an empty record */
      CHECK_CODE(resay_connection_send(engine, id, url, 1024 * 1024), RESAY_E_FULL);
    }
    CHECK_CODE(resay_chain(engine, listener, "delay:time=20ms", NULL), 0);
    CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
    say(client, "late", 4);
    while (get(engine, id).waiting_bytes != 4) poll(NULL, 0, 1);
    CHECK_CODE(resay_connection_send(engine, id, "then", 4), 0);
    if (is_record) {
      hear(client, "late", 4);
      hear(client, "then", 4);
    } else {
      hear(client, "latethen", 8);
    }
    CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
    stats = stats_of(engine, listener);
    CHECK(stats.messages_in == 2 && stats.messages_out == 2 && stats.bytes_out == 15);
    CHECK(get(engine, id).bytes_out == 15);
    resay_client_free(client);
    resay_engine_free(engine);
  }
}

/* A peer that does not read: there is room for high_water bytes, and what found none was not sent. */
static void a_full_connection(void)
{
  enum { EACH = 1000 };
  resay_engine *engine = new_engine();
  char url[128], block[EACH];
  resay_id listener = add(engine, "tcp://127.0.0.1:0?high_water=64k&sndbuf=4k", url);
  resay_client *client;
  uint64_t id;
  size_t sent = 0, full = 0;
  int result;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  ask(client, "a", "a");
  id = only(engine, listener);
  do {
    memset(block, (int)('a' + sent % 26), sizeof block);
    result = resay_connection_send(engine, id, block, sizeof block);
    CHECK(result == 0 || result == RESAY_E_FULL);
    sent += result == 0;
    full = result == 0 ? 0 : full + 1;
    CHECK(sent < 1000000);
    CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  } while (full < 3);
  CHECK(get(engine, id).waiting_bytes >= 60 * 1000);
  CHECK(get(engine, id).waiting_bytes <= 2 * 64 * 1024);
  CHECK_CODE(resay_connection_send(engine, id, url, SIZE_MAX), RESAY_E_ARG);
  for (size_t n = 0; n < sent; n++) {
    memset(block, (int)('a' + n % 26), sizeof block);
    hear(client, block, sizeof block);
  }
  /* It has read: there is room again. */
  while (get(engine, id).waiting_bytes != 0) poll(NULL, 0, 1);
  CHECK_CODE(resay_connection_send(engine, id, "more", 4), 0);
  hear(client, "more", 4);
  ask(client, "b", "b");
  resay_client_free(client);
  resay_engine_free(engine);
}

static void hears_nothing(resay_engine *engine, resay_client *client)
{
  char byte;
  size_t got;
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  CHECK_CODE(resay_client_recv(client, &byte, 1, &got, 0), RESAY_E_TIMEOUT);
}

static void pauses_and_ends(void)
{
  for (size_t n = 0; n < sizeof TRANSPORTS / sizeof *TRANSPORTS; n++) {
    resay_engine *engine = new_engine();
    char url[128];
    resay_id listener = add(engine, url_of(TRANSPORTS[n]), url);
    resay_event event;
    resay_events *events;
    CHECK_CODE(resay_events_open(engine, RESAY_EVENT_CLOSED, 64, &events, NULL), 0);
    CHECK_CODE(resay_start(engine, 2, NULL), 0);
    for (int how = 0; how < 4; how++) {
      resay_client *client = dial(url), *other;
      uint64_t id;
      char byte;
      size_t got;
      int result;
      ask(client, "a", "a");
      id = only(engine, listener);
      CHECK_CODE(resay_connection_pause(engine, id), 0);
      CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
      CHECK(get(engine, id).is_paused == 1);
      say(client, "b", 1);
      hears_nothing(engine, client);
      CHECK_CODE(resay_connection_send(engine, id, "c", 1), 0);
      hear(client, "c", 1);
      other = dial(url);
      ask(other, "d", "d");
      resay_client_free(other);
      switch (how) {
        case 0:
          CHECK_CODE(resay_connection_resume(engine, id), 0);
          hear(client, "b", 1);
          CHECK(get(engine, id).is_paused == 0);
          resay_client_free(client);
          break;
        case 1: /* what has arrived is answered */
          CHECK_CODE(resay_connection_shutdown(engine, id), 0);
          hear(client, "b", 1);
          hear_end(client);
          resay_client_free(client);
          break;
        case 2: /* it is not */
          CHECK_CODE(resay_connection_close(engine, id), 0);
          hear_end(client);
          resay_client_free(client);
          break;
        default:
          CHECK_CODE(resay_connection_reset(engine, id), 0);
          result = resay_client_recv(client, &byte, 1, &got, PATIENCE_MS);
          CHECK(result == RESAY_E_SYS || (result == 1 && n > 0)); /* unix sockets know no reset */
          resay_client_free(client);
      }
      wait_for_none(engine, listener);
      every_call_is_refused(engine, id);
      for (int found = 0; !found;) { /* the other one ends too */
        event.struct_size = sizeof event;
        CHECK_CODE(resay_events_next(events, &event, PATIENCE_MS), 1);
        found = event.connection == id;
      }
      CHECK(event.code == (how == 0 ? RESAY_CLOSED_PEER_CLOSED : RESAY_CLOSED_BY_HOST));
    }
    CHECK(strcmp(resay_event_code_name(RESAY_EVENT_CLOSED, RESAY_CLOSED_BY_HOST), "by_host") == 0);
    resay_engine_free(engine);
    CHECK_CODE(resay_events_close(events), 0);
  }
}

/* Silence does not count while the program does not listen. */
static void a_paused_peer_is_not_idle(void)
{
  resay_engine *engine = new_engine();
  char url[128];
  resay_id listener = add(engine, "tcp://127.0.0.1:0?idle_timeout=50ms", url);
  resay_client *client, *silent;
  uint64_t id;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  ask(client, "a", "a");
  id = only(engine, listener);
  CHECK_CODE(resay_connection_pause(engine, id), 0);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  if (resay_connection_pause(engine, id) == RESAY_E_HANDLE) {
    printf("the machine is too slow for an idle_timeout of 50 ms\n");
  } else {
    silent = dial(url);
    hear_end(silent); /* as long as that */
    resay_client_free(silent);
    CHECK(get(engine, id).is_paused == 1);
    say(client, "b", 1);
    CHECK_CODE(resay_connection_resume(engine, id), 0);
    hear(client, "b", 1);
    hear_end(client);
  }
  resay_client_free(client);
  resay_engine_free(engine);
}

static void a_listener_is_paused(void)
{
  resay_engine *engine = new_engine();
  char url[128], udp[128], unix_url[128];
  resay_id stream = add(engine, "tcp://127.0.0.1:0", url), datagrams = add(engine, "udp://127.0.0.1:0", udp);
  resay_id packets = add(engine, "unix-dgram:paused.sock", unix_url);
  resay_client *client, *later, *sender, *packet;
  uint64_t ids[4];
  size_t count;
  CHECK_CODE(resay_listener_pause(engine, packets), 0); /* before anything runs, too */
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  client = dial(url);
  ask(client, "a", "a");
  sender = dial(udp);
  ask(sender, "a", "a");
  packet = dial(unix_url);
  say(packet, "p", 1);
  CHECK_CODE(resay_listener_pause(engine, stream), 0);
  CHECK_CODE(resay_listener_pause(engine, datagrams), 0);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  later = dial(url);
  say(client, "b", 1);
  say(later, "c", 1);
  say(sender, "d", 1);
  while (stats_of(engine, stream).accepted != 2) poll(NULL, 0, 1);
  hears_nothing(engine, client);
  hears_nothing(engine, later);
  hears_nothing(engine, sender);
  hears_nothing(engine, packet);
  CHECK_CODE(resay_connections(engine, stream, ids, 4, &count), 0);
  CHECK(count == 2 && ids[0] < ids[1] && get(engine, ids[0]).is_paused == 1 && get(engine, ids[1]).is_paused == 1);
  CHECK_CODE(resay_connections(engine, 0, ids, 1, &count), RESAY_E_FULL);
  CHECK(count == 2);
  /* One of them is paused for itself, and stays so. */
  CHECK_CODE(resay_connection_pause(engine, ids[1]), 0);
  CHECK_CODE(resay_connection_resume(engine, ids[0]), 0);
  hears_nothing(engine, client);
  CHECK_CODE(resay_listener_resume(engine, stream), 0);
  CHECK_CODE(resay_listener_resume(engine, datagrams), 0);
  CHECK_CODE(resay_listener_resume(engine, packets), 0);
  hear(client, "b", 1);
  hear(sender, "d", 1);
  hear(packet, "p", 1);
  hears_nothing(engine, later);
  /* In good order everything is answered, whatever was paused. */
  CHECK_CODE(resay_listener_pause(engine, stream), 0);
  CHECK_CODE(resay_listener_pause(engine, datagrams), 0);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  say(sender, "e", 1);
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  hear(later, "c", 1);
  hear_end(later);
  hear_end(client);
  hear(sender, "e", 1);
  resay_client_free(client);
  resay_client_free(later);
  resay_client_free(sender);
  resay_client_free(packet);
  resay_engine_free(engine);
}

static void all_are_reset(void)
{
  enum { PEERS = 40 };
  resay_engine *engine = new_engine();
  char url[128], other[128];
  resay_id listener = add(engine, "tcp://127.0.0.1:0", url);
  resay_client *clients[PEERS], *stays;
  add(engine, "tcp://127.0.0.1:0", other);
  CHECK_CODE(resay_listener_reset(engine, listener), 0);
  CHECK_CODE(resay_start(engine, 3, NULL), 0);
  stays = dial(other);
  for (int n = 0; n < PEERS; n++) {
    clients[n] = dial(url);
    ask(clients[n], "x", "x");
  }
  CHECK_CODE(resay_listener_reset(engine, listener), PEERS);
  CHECK(stats_of(engine, listener).open == 0);
  for (int n = 0; n < PEERS; n++) {
    char byte;
    size_t got;
    CHECK_CODE(resay_client_recv(clients[n], &byte, 1, &got, PATIENCE_MS), RESAY_E_SYS);
    resay_client_free(clients[n]);
  }
  CHECK_CODE(resay_listener_reset(engine, listener), 0);
  ask(stays, "x", "x");
  resay_client_free(stays);
  resay_engine_free(engine);
}

/* Nobody comes to this address: the kernel says so at once. */
static void nobody_comes(const char *url, int count)
{
  for (int n = 0; n < count; n++) {
    resay_client *client = NULL;
    resay_error error;
    char byte;
    size_t got;
    int result = resay_client_open(url, PATIENCE_MS, &client, &error);
    if (result == 0 && strstr(url, "udp") != NULL) {
      CHECK_CODE(resay_client_send(client, "x", 1, PATIENCE_MS), 0);
      CHECK_CODE(resay_client_recv(client, &byte, 1, &got, PATIENCE_MS), RESAY_E_SYS);
      resay_client_free(client);
    } else {
      CHECK(result == RESAY_E_SYS && error.os_errno == ECONNREFUSED && client == NULL);
    }
  }
}

/* The address of a listener is still in use, whoever asks for it. Workers that share one among datagram sockets share it with
 * all of this user, always. */
static void nobody_takes(const resay_address *address, int type, int is_shared)
{
  for (int reuse = 0; reuse < (is_shared ? 2 : 3); reuse++) {
    struct sockaddr_storage wanted;
    int one = 1, other;
    memcpy(&wanted, address->words, sizeof wanted);
    other = socket(wanted.ss_family, type, 0);
    CHECK(other >= 0);
    if (reuse == 1) CHECK(setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    if (reuse == 2) CHECK(setsockopt(other, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0);
    CHECK(bind(other, (struct sockaddr *)&wanted, address->len) == -1 && errno == EADDRINUSE);
    close(other);
  }
}

static void refuses_and_comes_back(void)
{
  static const struct {
    const char *url;
    int type;
  } rows[] = {
    {"tcp://127.0.0.1:0", SOCK_STREAM},         {"tcp://0.0.0.0:0", SOCK_STREAM},
    {"tcp://[::1]:0", SOCK_STREAM},             {"udp://127.0.0.1:0", SOCK_DGRAM},
    {"udp://0.0.0.0:0", SOCK_DGRAM},          {"udp://[::1]:0", SOCK_DGRAM},
    {"udp://[::]:0", SOCK_DGRAM},
    {"udp://:0", SOCK_DGRAM},
    {"unix:refusing.sock", SOCK_STREAM},        {"unix-seqpacket:refusing.sock", SOCK_SEQPACKET},
    {"unix-dgram:refusing.sock", SOCK_DGRAM},   {"unix:@resay-refusing-%d", SOCK_STREAM},
  };
  enum { TRIES = 50 };
  for (uint32_t threads = 1; threads <= 3; threads += 2)
    for (size_t n = 0; n < sizeof rows / sizeof *rows; n++) {
      resay_engine *engine = new_engine();
      char url[128], target[128];
      resay_id listener;
      resay_client *client;
      resay_address address;
      int is_datagram = rows[n].type == SOCK_DGRAM, is_unix = strncmp(rows[n].url, "unix", 4) == 0;
      resay_stats stats;
      if (strstr(rows[n].url, "[::") && access("/proc/net/if_inet6", F_OK) != 0) continue;
      listener = add(engine, url_of(rows[n].url), url);
      CHECK_CODE(resay_listener_accept(engine, listener, 0), RESAY_E_STATE); /* not yet */
      CHECK_CODE(resay_start(engine, threads, NULL), 0);
      strcpy(target, url);
      if (strstr(url, "[::]") != NULL)
        snprintf(target, sizeof target, "%.6s[::1]:%d", url, resay_listener_port(engine, listener));
      if (strstr(url, "0.0.0.0") != NULL || strncmp(url, "udp://:", 7) == 0)
        snprintf(target, sizeof target, "%.6s127.0.0.1:%d", url, resay_listener_port(engine, listener));
      CHECK_CODE(resay_listener_address(engine, listener, &address), 0);
      CHECK_CODE(resay_listener_accept(engine, listener, 1), 0);
      client = dial(target);
      ask(client, "a", "a");
      for (int round = 0; round < 3; round++) {
        CHECK_CODE(resay_listener_accept(engine, listener, 0), 0);
        CHECK_CODE(resay_listener_accept(engine, listener, 0), 0);
        nobody_comes(target, TRIES);
        if (!is_unix) nobody_takes(&address, rows[n].type, is_datagram && threads > 1);
        if (!is_datagram) ask(client, "b", "b"); /* who is there stays */
        CHECK_CODE(resay_listener_accept(engine, listener, 1), 0);
        for (int m = 0; m < TRIES; m++) ask_once(target, "x", "x");
      }
      CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
      stats = stats_of(engine, listener);
      CHECK(stats.messages_in == stats.messages_out);
      CHECK(stats.messages_in == 1 + 3 * TRIES + (is_datagram ? 0u : 3u));
      CHECK_CODE(resay_listener_accept(engine, listener, 0), 0);
      if (n % 2 == 0) { /* it can be closed, drained or stopped as it is */
        CHECK_CODE(resay_listener_close(engine, listener), 0);
        if (strstr(url, "refusing.sock")) CHECK(access("refusing.sock", F_OK) == -1);
      } else {
        CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
      }
      resay_client_free(client);
      resay_engine_free(engine);
      CHECK(access("refusing.sock", F_OK) == -1);
    }
}

static void what_cannot_refuse(void)
{
  resay_engine *engine = new_engine();
  char url[128], name[64];
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = 0};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  resay_id inherited, datagrams;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 8) == 0);
  CHECK_CODE(resay_listen_fd(engine, fd, RESAY_FD_OWN, NULL, &inherited, NULL), 0);
  snprintf(name, sizeof name, "unix-dgram:@resay-refusing-%d", (int)getpid());
  datagrams = add(engine, name, url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  CHECK_CODE(resay_listener_accept(engine, inherited, 0), RESAY_E_STATE);
  CHECK(strstr(resay_last_error(), "opened by the program") != NULL);
  CHECK_CODE(resay_listener_accept(engine, datagrams, 0), RESAY_E_STATE);
  CHECK(strstr(resay_last_error(), "abstract") != NULL);
  CHECK_CODE(resay_listener_url(engine, inherited, url, sizeof url, NULL), 0);
  ask_once(url, "x", "x");
  resay_engine_free(engine);
}

/* Over when it returns. */
static void closed_is_closed(void)
{
  static const char *const urls[] = {"tcp://127.0.0.1:0", "unix:closed.sock", "udp://127.0.0.1:0", "unix-dgram:closed.sock"};
  for (uint32_t threads = 1; threads <= 2; threads++)
    for (size_t n = 0; n < sizeof urls / sizeof *urls; n++) {
      resay_engine *engine = new_engine();
      char url[128];
      CHECK_CODE(resay_start(engine, threads, NULL), 0);
      for (int round = 0; round < 40; round++) {
        resay_id listener = add(engine, urls[n], url);
        resay_error error;
        resay_client *client, *waiting = dial(url);
        ask(waiting, "a", "a");
        resay_client_free(waiting);
        waiting = dial(url); /* who has come before is still served */
        CHECK_CODE(resay_listener_close(engine, listener), 0);
        if (strncmp(url, "udp", 3) == 0) {
          nobody_comes(url, 1);
        } else {
          CHECK_CODE(resay_client_open(url, PATIENCE_MS, &client, &error), RESAY_E_SYS);
          CHECK(error.os_errno == ECONNREFUSED || error.os_errno == ENOENT);
        }
        if (n < 2) ask(waiting, "b", "b");
        resay_client_free(waiting);
      }
      resay_engine_free(engine);
    }
}

static void asks_inside(resay_engine *engine, uint64_t id, resay_id listener)
{
  resay_connection found;
  found.struct_size = sizeof found;
  CHECK_CODE(resay_connection_get(engine, id, &found), RESAY_E_STATE);
  CHECK_CODE(resay_connection_send(engine, id, "x", 1), RESAY_E_STATE);
  CHECK_CODE(resay_connection_close(engine, id), RESAY_E_STATE);
  CHECK_CODE(resay_listener_accept(engine, listener, 0), RESAY_E_STATE);
  CHECK_CODE(resay_listener_reset(engine, listener), RESAY_E_STATE);
  CHECK_CODE(resay_listener_close(engine, listener), RESAY_E_STATE);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), RESAY_E_STATE);
}

struct bridge {
  resay_engine *own, *other;
  uint64_t id, its;
  resay_id listener;
};

/* Inside a callback: nothing of the engine's own, and of another one what does not wait. */
static int bridging(void *user, void **session, const resay_message *message, resay_out *out)
{
  struct bridge *bridge = user;
  (void)session, (void)out;
  asks_inside(bridge->own, bridge->id, bridge->listener);
  CHECK_CODE(resay_sync(bridge->other, PATIENCE_MS), RESAY_E_STATE);
  CHECK_CODE(resay_connection_send(bridge->other, bridge->its, message->data, message->len), 0);
  return RESAY_PASS;
}

static void inside_a_callback(void)
{
  struct bridge bridge = {new_engine(), new_engine(), 0, 0, 0};
  char url[128], other[128];
  resay_client *client, *its;
  resay_id far;
  CHECK_CODE(add_function(bridge.own, "bridging", bridging, &bridge, NULL), 0);
  bridge.listener = add(bridge.own, "tcp://127.0.0.1:0", url);
  far = add(bridge.other, "tcp://127.0.0.1:0", other);
  CHECK_CODE(resay_start(bridge.own, 1, NULL), 0);
  CHECK_CODE(resay_start(bridge.other, 1, NULL), 0);
  client = dial(url);
  ask(client, "a", "a");
  its = dial(other);
  ask(its, "a", "a");
  bridge.id = only(bridge.own, bridge.listener);
  bridge.its = only(bridge.other, far);
  CHECK_CODE(resay_chain(bridge.own, 0, "bridging", NULL), 0);
  CHECK_CODE(resay_sync(bridge.own, PATIENCE_MS), 0);
  ask(client, "over", "over");
  hear(its, "over", 4);
  resay_client_free(client);
  resay_client_free(its);
  resay_engine_free(bridge.own);
  resay_engine_free(bridge.other);
}

/* The engine runs in this very thread, and no call waits for it. */
static void in_the_programs_own_loop(void)
{
  resay_engine *engine = new_engine();
  char url[128], path[128], udp[128], text[8];
  resay_id listener = add(engine, "tcp://127.0.0.1:0", url), file = add(engine, "unix:loop.sock", path);
  resay_id datagrams = add(engine, "udp://127.0.0.1:0", udp);
  resay_client *client, *late, *other;
  struct pollfd watched = {0, POLLIN, 0};
  uint64_t id;
  size_t got, count;
  CHECK_CODE(resay_sync(engine, 0), RESAY_E_STATE);
  CHECK_CODE(resay_connections(engine, 0, NULL, 0, &count), 0);
  watched.fd = resay_poll_fd(engine);
  CHECK_CODE(resay_run(engine, 0), 1);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), RESAY_E_STATE);
  client = dial(url);
  say(client, "a", 1);
  while (resay_client_recv(client, text, 1, &got, 0) == RESAY_E_TIMEOUT) CHECK_CODE(resay_run(engine, 1), 1);
  id = only(engine, listener);
  CHECK(get(engine, id).bytes_in == 1);
  while (poll(&watched, 1, 0) == 1) CHECK_CODE(resay_run(engine, 0), 1);
  CHECK_CODE(resay_connection_send(engine, id, "pushed", 6), 0);
  CHECK(poll(&watched, 1, PATIENCE_MS) == 1); /* the loop hears of it */
  CHECK_CODE(resay_run(engine, 0), 1);
  hear(client, "pushed", 6);

  late = dial(url); /* it waits to be accepted, and is served */
  CHECK_CODE(resay_listener_accept(engine, listener, 0), 0);
  nobody_comes(url, 3);
  say(late, "b", 1);
  while (resay_client_recv(late, text, 1, &got, 0) == RESAY_E_TIMEOUT) CHECK_CODE(resay_run(engine, 1), 1);
  CHECK_CODE(resay_listener_accept(engine, listener, 1), 0);
  other = dial(url);
  CHECK_CODE(resay_run(engine, 1), 1);
  CHECK_CODE(resay_listener_accept(engine, file, 0), 0);
  nobody_comes(path, 3);
  CHECK_CODE(resay_listener_accept(engine, file, 1), 0);
  CHECK_CODE(resay_listener_accept(engine, datagrams, 0), 0);
  nobody_comes(udp, 3);
  CHECK_CODE(resay_run(engine, 1), 1);
  CHECK_CODE(resay_listener_close(engine, listener), 0);
  nobody_comes(url, 3);
  CHECK_CODE(resay_listener_close(engine, file), 0);
  CHECK(access("loop.sock", F_OK) == -1);
  CHECK_CODE(resay_listener_close(engine, datagrams), 0);
  CHECK_CODE(resay_connection_reset(engine, id), 0);
  CHECK_CODE(resay_run(engine, 1), 1);
  CHECK_CODE(resay_client_recv(client, text, 1, &got, PATIENCE_MS), RESAY_E_SYS);
  every_call_is_refused(engine, id);
  resay_client_free(client);
  resay_client_free(late);
  resay_client_free(other);
  resay_engine_free(engine);
}

static void *lend(void *engine)
{
  int result;
  do
    result = resay_run(engine, -1);
  while (result == RESAY_E_INTR);
  CHECK_CODE(result, 0);
  return NULL;
}

/* Threads that the program lends: another one asks, and need not wait for a message to come. */
static void on_lent_threads(void)
{
  resay_engine *engine = new_engine();
  pthread_t threads[2];
  char url[128];
  resay_id listener = add(engine, "tcp://127.0.0.1:0", url);
  resay_client *client;
  uint64_t id;
  CHECK_CODE(resay_set(engine, "threads", "2", NULL), 0);
  for (int n = 0; n < 2; n++) CHECK(pthread_create(&threads[n], NULL, lend, engine) == 0);
  client = dial(url);
  ask(client, "a", "a");
  id = only(engine, listener);
  while (resay_sync(engine, PATIENCE_MS) == RESAY_E_STATE) poll(NULL, 0, 1); /* until both have begun */
  CHECK_CODE(resay_connection_send(engine, id, "b", 1), 0);
  hear(client, "b", 1);
  CHECK(get(engine, id).bytes_out == 2);
  CHECK_CODE(resay_listener_reset(engine, listener), 1);
  CHECK_CODE(resay_listener_accept(engine, listener, 0), 0);
  nobody_comes(url, 3);
  CHECK_CODE(resay_listener_close(engine, listener), 0);
  CHECK_CODE(resay_stop(engine), 0);
  for (int n = 0; n < 2; n++) CHECK(pthread_join(threads[n], NULL) == 0);
  resay_client_free(client);
  resay_engine_free(engine);
}

static int blocking(void *user, void **session, const resay_message *message, resay_out *out)
{
  char byte;
  (void)session, (void)message, (void)out;
  CHECK(read(((int *)user)[0], &byte, 1) == 1);
  return RESAY_PASS;
}

/* A worker that is held up: who waits for it is told so in time. */
static void sync_has_a_limit(void)
{
  resay_engine *engine = new_engine();
  int ends[2];
  char url[128], need[64];
  resay_id listener = add(engine, "tcp://127.0.0.1:0", url);
  resay_client *client;
  size_t size;
  CHECK(pipe(ends) == 0);
  CHECK_CODE(add_function(engine, "blocking", blocking, ends, NULL), 0);
  CHECK_CODE(resay_chain(engine, listener, "blocking", NULL), 0);
  CHECK_CODE(resay_listener_chain(engine, listener, need, sizeof need, &size), 0);
  CHECK(strcmp(need, "blocking") == 0 && size == strlen(need) + 1);
  CHECK_CODE(resay_listener_chain(engine, 0, need, sizeof need, NULL), 0);
  CHECK(strcmp(need, "") == 0);
  CHECK_CODE(resay_listener_chain(engine, listener, need, 3, &size), RESAY_E_FULL);
  CHECK_CODE(resay_listener_option(engine, listener, "high_water", need, sizeof need, NULL), 0);
  CHECK(strcmp(need, "256k") == 0);
  CHECK_CODE(resay_listener_option(engine, listener, "rcvbuf", need, sizeof need, NULL), 0);
  CHECK(atoi(need) > 0);
  CHECK_CODE(resay_listener_option(engine, listener, "high_tide", need, sizeof need, NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_listener_option(engine, listener, NULL, need, sizeof need, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  client = dial(url);
  say(client, "x", 1);
  while (stats_of(engine, listener).messages_in == 0) poll(NULL, 0, 1);
  CHECK_CODE(resay_sync(engine, 1), RESAY_E_TIMEOUT);
  CHECK(write(ends[1], "x", 1) == 1);
  hear(client, "x", 1);
  CHECK_CODE(resay_sync(engine, -1), 0);
  resay_client_free(client);
  resay_engine_free(engine);
  close(ends[0]);
  close(ends[1]);
}

int main(void)
{
  ids_of_two_engines();
  what_a_connection_is();
  what_a_proxy_says();
  sends_unasked();
  a_full_connection();
  pauses_and_ends();
  a_paused_peer_is_not_idle();
  a_listener_is_paused();
  all_are_reset();
  refuses_and_comes_back();
  what_cannot_refuse();
  closed_is_closed();
  inside_a_callback();
  in_the_programs_own_loop();
  on_lent_threads();
  sync_has_a_limit();
  return 0;
}
