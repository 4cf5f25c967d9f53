// Probe is what tests of the cluster run in pods: it says where it is, what it can reach and what it can read.
//
//	probe serve        answers on port 8080: / with the host's name, /fetch?url=URL with what URL answers,
//	                   /list?folder=PATH with the names of the files there
//	probe fetch URL    prints what URL answers
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

// Short, because tests also ask for what must not answer.
var client = http.Client{Timeout: 3 * time.Second}

func fetch(url string) (string, error) {
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return string(body), err
}

func answer(w http.ResponseWriter, text string, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, text)
}

func serve() error {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		name, err := os.Hostname()
		answer(w, name, err)
	})
	http.HandleFunc("/fetch", func(w http.ResponseWriter, r *http.Request) {
		text, err := fetch(r.URL.Query().Get("url"))
		answer(w, text, err)
	})
	http.HandleFunc("/list", func(w http.ResponseWriter, r *http.Request) {
		entries, err := os.ReadDir(r.URL.Query().Get("folder"))
		answer(w, fmt.Sprint(entries), err)
	})
	return http.ListenAndServe(":8080", nil)
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		log.Fatal(serve())
	}
	if len(os.Args) == 3 && os.Args[1] == "fetch" {
		text, err := fetch(os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(text)
		return
	}
	log.Fatal("usage: probe serve | probe fetch URL")
}
