import 'typebox'; setInterval(()=>{},1e6)
