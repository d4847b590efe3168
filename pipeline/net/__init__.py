"""Servers: which may be asked, how one file is fetched, how many are. Each line uses what stands above it.

public_address, deadline                   which addresses may be asked; answers that end in time
patience, trouble, web_address, answer     the words: how long to wait, what goes wrong, where to, what came
connection_pools, http_client              one request
retries                                    asked again until it is there
wanted_file, partial_file, download_file   one file, resumed and proven
listing, hub, bucket                       what lies at a server
host_queue, journal, fetch_many            many images by address
"""
