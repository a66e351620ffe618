/* resay.h, alone and first, twice; every function has the type that it says. For C and for C++. */
#include <resay.h>
#include <resay.h>

typedef int (*new_type)(uint32_t, resay_engine **, resay_error *);
typedef int (*free_type)(resay_engine *);
typedef int (*listen_fd_type)(resay_engine *, int, uint32_t, const char *, resay_id *, resay_error *);
typedef int (*function_type)(resay_engine *, const char *, const resay_function *, resay_error *);
typedef int (*log_type)(resay_engine *, int, void (*)(void *, int, const char *, size_t), void *);
typedef int (*next_type)(resay_events *, resay_event *, int32_t);
typedef int (*read_type)(resay_tap *, resay_tap_record *, size_t, size_t, void *, size_t, int32_t);
typedef int (*receive_type)(resay_client *, void *, size_t, size_t *, int32_t);

#ifdef __cplusplus
extern "C" {
#endif
static int pass(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)message, (void)out;
  return RESAY_PASS;
}
#ifdef __cplusplus
}
#endif

int main(void)
{
  new_type make = resay_engine_new;
  free_type end = resay_engine_free;
  listen_fd_type listen_fd = resay_listen_fd;
  function_type add_function = resay_register_function;
  resay_function function = {sizeof(resay_function), 0, NULL, NULL, pass, NULL, NULL};
  log_type log_to = resay_log;
  next_type next = resay_events_next;
  read_type read_tap = resay_tap_read;
  receive_type receive = resay_client_recv;
  resay_engine *engine;
  if (make(RESAY_ABI, &engine, NULL) < 0) return 1;
  if (add_function(engine, "pass", &function, NULL) < 0 || resay_chain(engine, 0, "pass", NULL) < 0) return 2;
  if (listen_fd(engine, -1, RESAY_FD_DUP, NULL, NULL, NULL) != RESAY_E_ARG) return 3;
  if (log_to(engine, 0, NULL, NULL) != 0 || next(NULL, NULL, 0) != RESAY_E_ARG) return 4;
  if (receive(NULL, NULL, 0, NULL, 0) != RESAY_E_ARG) return 5;
  if (read_tap(NULL, NULL, sizeof(resay_tap_record), 1, NULL, 0, 0) != RESAY_E_ARG) return 6;
  end(engine);
  return 0;
}
