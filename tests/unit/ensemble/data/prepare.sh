#!/bin/sh
mkdir -p "${DATA:-/data}"
