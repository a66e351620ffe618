/* Python functions as transforms, at the cost of a call.
 *
 * It is built without Python.h and linked with no Python: `resay_python_setup` receives the addresses of functions of the stable
 * ABI (PEP 384) in the running process. So one file serves every CPython from 3.9 on. Where they are missing (PyPy), the package
 * does the same with callbacks of ctypes.
 *
 *   a worker ──> resay_python_call ──> PyGILState_Ensure, PyBytes_…, the function, resay_out_write
 *                      │ any answer but bytes, PASS or None; an exception
 *                      └──> slow(...) in _transforms.py
 *
 *   an event loop ──> turn ──> resay_run(engine, 0)
 *                      │ the engine has ended; Ctrl-C inside a transform
 *                      └──> ended(code) in _loops.py
 *
 * A thread of the engine has a Python thread state from its first to its last moment (`resay_python_thread_begin` and `_end`):
 * making one for each message costs 7 to 12 us.
 */
#include <stddef.h>
#include <stdint.h>

#include "resay.h"

/* Opaque: nothing in here looks into an object. */
typedef struct object object;
typedef ptrdiff_t py_size;

/* PyMethodDef, and METH_NOARGS. */
struct method {
  const char *name;
  object *(*call)(object *, object *);
  int flags;
  const char *doc;
};
enum { NO_ARGUMENTS = 4 };

/* Filled by _transforms.py, in this order. */
struct setup {
  int (*ensure)(void);
  void (*release)(int);
  void *(*save_thread)(void);
  void (*restore_thread)(void *);
  object *(*bytes_new)(const char *, py_size);
  int (*bytes_get)(object *, char **, py_size *);
  object *(*call_one)(object *, object *); /* NULL before Python 3.10: call_many instead */
  object *(*call_many)(object *, ...);
  object *(*text_new)(const char *);
  object *(*address_new)(void *);
  long (*as_long)(object *);
  void (*forget)(object *); /* Py_DecRef */
  void (*error_fetch)(object **, object **, object **);
  void (*error_normalize)(object **, object **, object **);
  void (*error_clear)(void);
  int (*error_trace)(object *, object *);
  object *(*function_new)(struct method *, object *, object *); /* PyCFunction_NewEx */
  char *(*bytes_of)(object *);                                  /* PyBytes_AsString */
  object *(*long_new)(long);
  object *(*bool_new)(long);
  int (*run)(resay_engine *, int32_t);
  int (*out_write)(resay_out *, const void *, size_t);
  object *none;
  object *pass;
};

static struct setup python;

/* What the user pointer of a transform, and of the thread hooks, leads to. The package keeps it and the objects alive. */
struct transform {
  object *function;
  object *slow;
};

struct hooks {
  object *begin;
  object *end;
};

RESAY_EXPORT void resay_python_setup(const struct setup *setup) { python = *setup; }

/* The exception of this thread, with its traceback; never NULL after a call that failed. */
static object *take_exception(void)
{
  object *type = NULL, *value = NULL, *trace = NULL;
  python.error_fetch(&type, &value, &trace);
  python.error_normalize(&type, &value, &trace);
  if (trace && value)
    python.error_trace(value, trace);
  python.forget(type);
  python.forget(trace);
  return value;
}

/* slow(result, exception, data, message, out) decides about every answer that is not bytes. Returns a status. */
static int answer_slowly(const struct transform *transform, object *result, object *data, const resay_message *message, resay_out *out)
{
  object *exception = result ? NULL : take_exception();
  object *message_at = python.address_new((void *)message), *out_at = python.address_new(out);
  object *status = NULL;
  long code = RESAY_E_DATA;
  if (message_at && out_at)
    status = python.call_many(transform->slow, result ? result : python.none, exception ? exception : python.none,
                              data ? data : python.none, message_at, out_at, NULL);
  if (status)
    code = python.as_long(status);
  else
    python.error_clear();
  python.forget(exception);
  python.forget(message_at);
  python.forget(out_at);
  python.forget(status);
  return (int)code;
}

/* This thread is inside `turn`, so it has the interpreter's lock. */
static __thread int is_locked;

RESAY_EXPORT int resay_python_call(void *user, void **session, const resay_message *message, resay_out *out)
{
  const struct transform *transform = user;
  (void)session;
  if (message->len == 0 && (message->flags & RESAY_IO_EOF))
    return RESAY_PASS; /* the end of a raw stream is no message */

  int has_lock = is_locked, state = has_lock ? 0 : python.ensure();
  object *data = python.bytes_new((const char *)message->data, (py_size)message->len), *result = NULL;
  if (data)
    result = python.call_one ? python.call_one(transform->function, data) : python.call_many(transform->function, data, NULL);

  int status;
  char *bytes;
  py_size len;
  if (result && (result == data || result == python.pass)) {
    status = RESAY_PASS;
  } else if (result && result == python.none) {
    status = RESAY_DROP;
  } else if (result && python.bytes_get(result, &bytes, &len) == 0) {
    status = python.out_write(out, bytes, (size_t)len) < 0 ? RESAY_E_DATA : RESAY_REPLACE;
  } else {
    if (result)
      python.error_clear(); /* it is not bytes */
    status = answer_slowly(transform, result, data, message, out);
  }
  python.forget(result);
  python.forget(data);
  if (!has_lock)
    python.release(state);
  return status;
}

static __thread void *thread_state;
static __thread int thread_gil;

RESAY_EXPORT void resay_python_thread_begin(void *user, const char *thread)
{
  const struct hooks *hooks = user;
  thread_gil = python.ensure();
  object *name = python.text_new(thread ? thread : "resay");
  object *result = name ? python.call_many(hooks->begin, name, NULL) : NULL;
  if (!result)
    python.error_clear();
  python.forget(result);
  python.forget(name);
  thread_state = python.save_thread();
}

RESAY_EXPORT void resay_python_thread_end(void *user)
{
  const struct hooks *hooks = user;
  if (!thread_state)
    return;
  python.restore_thread(thread_state);
  thread_state = NULL;
  object *result = python.call_many(hooks->end, NULL);
  if (!result)
    python.error_clear();
  python.forget(result);
  python.release(thread_gil);
}

/* What the bytes of a turn are. */
struct loop {
  resay_engine *engine;
  const int *has_interrupt;
  object *ended;
};

/* One turn of an engine in the thread's own loop, which has the interpreter's lock throughout: whether the engine is alive.
 * `self` is a struct loop as bytes. */
static object *turn(object *self, object *none)
{
  (void)none;
  const struct loop *loop = (const void *)python.bytes_of(self);
  int was_locked = is_locked;
  is_locked = 1;
  int code = python.run(loop->engine, 0);
  is_locked = was_locked;
  if ((code == 1 || code == RESAY_E_INTR) && !*loop->has_interrupt)
    return python.bool_new(1);
  object *number = python.long_new(code);
  object *result = number ? python.call_many(loop->ended, number, NULL) : NULL;
  python.forget(number);
  return result;
}

/* The same as an object that Python can call. It keeps `alive` alive, in the place of a function's module. */
RESAY_EXPORT object *resay_python_turn(object *self, object *alive)
{
  static struct method method = {"turn", turn, NO_ARGUMENTS, NULL};
  return python.function_new(&method, self, alive);
}
