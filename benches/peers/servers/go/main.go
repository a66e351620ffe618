// An echo with Go's net package: a goroutine a connection.
//
//	go-echo copy|buffer tcp|unix|udp PORT|PATH
//
// copy: io.Copy from the connection to itself, which the runtime turns into splice(2). buffer: read and write with 16 KiB.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

const (
	bufferBytes         = 16 << 10
	datagramBytesMax    = 64 << 10
	datagramSocketBytes = 4 << 20
)

func main() {
	if len(os.Args) != 4 {
		fail(fmt.Errorf("usage: go-echo copy|buffer tcp|unix|udp PORT|PATH"))
	}
	how, kind, place := os.Args[1], os.Args[2], os.Args[3]
	if kind != "unix" {
		place = "127.0.0.1:" + place
	}
	if kind == "udp" {
		fail(datagrams(place))
	}
	listener, err := net.Listen(kind, place)
	if err != nil {
		fail(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		if how == "copy" {
			go func() {
				defer connection.Close()
				_, _ = io.Copy(connection, connection)
			}()
		} else {
			go echo(connection)
		}
	}
}

func echo(connection net.Conn) {
	defer connection.Close()
	buffer := make([]byte, bufferBytes)
	for {
		received, err := connection.Read(buffer)
		if err != nil {
			return
		}
		if _, err := connection.Write(buffer[:received]); err != nil {
			return
		}
	}
}

func datagrams(place string) error {
	address, err := net.ResolveUDPAddr("udp", place)
	if err != nil {
		return err
	}
	socket, err := net.ListenUDP("udp", address)
	if err != nil {
		return err
	}
	if err := socket.SetReadBuffer(datagramSocketBytes); err != nil {
		return err
	}
	buffer := make([]byte, datagramBytesMax)
	for {
		received, peer, err := socket.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return err
		}
		// What cannot be sent is lost, as datagrams are.
		_, _ = socket.WriteToUDPAddrPort(buffer[:received], peer)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}
