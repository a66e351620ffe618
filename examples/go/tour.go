// The first ten minutes in Go: three kinds of sockets, a transform that is a function of the program, another chain while a
// connection is open, the end.
//
//	cd examples/go
//	CGO_CFLAGS=$(pkg-config --cflags resay) CGO_LDFLAGS=$(pkg-config --libs-only-L resay) go run .
package main

/*
#cgo LDFLAGS: -lresay
#include <resay.h>
#include <stdlib.h>

// Defined below, in Go.
int callTransform(void *user, void **session, resay_message *message, resay_out *out);
void releaseTransform(void *user);

// A Go value cannot be in memory of C: user is the number of a handle.
static int registerTransform(resay_engine *engine, const char *id, uintptr_t handle, resay_error *err)
{
	resay_function function = {.struct_size = sizeof function, .user = (void *)handle, .release = releaseTransform};
	function.call = (int (*)(void *, void **, const resay_message *, resay_out *))callTransform;
	return resay_register_function(engine, id, &function, err);
}
*/
import "C"

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"runtime/cgo"
	"strings"
	"unsafe"
)

// A transform answers a message. The engine calls it on its threads, several at once.
type transform func(message []byte) []byte

//export callTransform
func callTransform(user unsafe.Pointer, _ *unsafe.Pointer, message *C.resay_message, out *C.resay_out) (status C.int) {
	// A panic must not leave a callback.
	defer func() {
		if recover() != nil {
			status = C.RESAY_E_DATA
		}
	}()
	answer := cgo.Handle(user).Value().(transform)(C.GoBytes(unsafe.Pointer(message.data), C.int(message.len)))
	if len(answer) > 0 && C.resay_out_write(out, unsafe.Pointer(&answer[0]), C.size_t(len(answer))) < 0 {
		return C.RESAY_DROP
	}
	return C.RESAY_REPLACE
}

//export releaseTransform
func releaseTransform(user unsafe.Pointer) {
	cgo.Handle(user).Delete()
}

type engine struct{ c *C.resay_engine }

func check(code C.int, failure *C.resay_error) {
	if code < 0 {
		log.Fatal(C.GoString(&failure.message[0]))
	}
}

// Calls f with a copy of the text in memory of C.
func with(text string, f func(*C.char, *C.resay_error) C.int) {
	var failure C.resay_error
	c := C.CString(text)
	defer C.free(unsafe.Pointer(c))
	check(f(c, &failure), &failure)
}

func newEngine() engine {
	var e engine
	var failure C.resay_error
	check(C.resay_engine_new(C.RESAY_ABI, &e.c, &failure), &failure)
	return e
}

func (e engine) register(id string, t transform) {
	with(id, func(c *C.char, failure *C.resay_error) C.int {
		return C.registerTransform(e.c, c, C.uintptr_t(cgo.NewHandle(t)), failure)
	})
}

func (e engine) chain(spec string) {
	with(spec, func(c *C.char, failure *C.resay_error) C.int { return C.resay_chain(e.c, 0, c, failure) })
}

// The address of the new listener: host and port, or a path.
func (e engine) listen(url string) string {
	var id C.resay_id
	with(url, func(c *C.char, failure *C.resay_error) C.int { return C.resay_listen(e.c, c, &id, failure) })
	if port := C.resay_listener_port(e.c, id); port > 0 {
		return fmt.Sprintf("127.0.0.1:%d", port)
	}
	path, _, _ := strings.Cut(strings.TrimPrefix(url, "unix:"), "?")
	return path
}

func (e engine) start(threads int) {
	var failure C.resay_error
	check(C.resay_start(e.c, C.uint32_t(threads), &failure), &failure)
}

func main() {
	e := newEngine()
	e.register("shout", func(message []byte) []byte { return append(message, '!') })
	e.chain("shout")
	tcp := e.listen("tcp://127.0.0.1:0?frame=lines") // port 0: a free one
	udp := e.listen("udp://127.0.0.1:0")
	local := e.listen("unix:tour-go.sock?frame=lines&mode=600")
	e.start(2)

	connection := dial("tcp", tcp)
	ask(connection, "tcp", "hello\n")
	ask(dial("udp", udp), "udp", "hello")
	ask(dial("unix", local), "unix", "hello\n")

	e.chain("shout | uppercase") // of all connections, the open one too
	ask(connection, "tcp", "hello\n")
	connection.Close()

	C.resay_drain(e.c, 5000) // every answer is sent; the file of the unix socket is gone
	C.resay_engine_free(e.c)
}

func dial(network, address string) net.Conn {
	connection, err := net.Dial(network, address)
	if err != nil {
		log.Fatal(err)
	}
	return connection
}

// On a stream a message is a line, as the listener says.
func ask(connection net.Conn, name, message string) {
	if _, err := connection.Write([]byte(message)); err != nil {
		log.Fatal(err)
	}
	var answer string
	if strings.HasSuffix(message, "\n") {
		answer, _ = bufio.NewReader(connection).ReadString('\n')
	} else {
		datagram := make([]byte, 64)
		n, _ := connection.Read(datagram)
		answer = string(datagram[:n])
	}
	fmt.Printf("%s: %s -> %s\n", name, strings.TrimSuffix(message, "\n"), strings.TrimSuffix(answer, "\n"))
}
