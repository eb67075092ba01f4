const x: number = 1; setInterval(()=>{},1e6)
